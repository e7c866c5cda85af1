"""Threads that share one model: samplers put other layers in its network for a while, and must not meet there."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import torch

from longtake.models import load_model
from longtake.models.modelscope.model import UNetModel
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.sampler import Sampler
from longtake.samplers import run_plan
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.fifo.plan import Fifo
from longtake.samplers.video_infinity.plan import VideoInfinity

JOBS: Sequence[tuple[Sampler, int | None]] = [
    (Fifo(), None),
    (Chunked(overlap=2), 4),
    (VideoInfinity(clips=2), 8),
]


def video(model: UNetModel, number: int) -> bytes:
    sampler, steps = JOBS[number]
    prompts = PromptTimeline((0, 3), (f"a red car {'ab' * number}", f"{'z' * number} a blue boat"))
    plan = sampler.plan(Request(prompts=prompts, frames=16, seed=number, steps=steps), model.spec)
    chunks = run_plan(model, plan, seeded_noise(number), ALONE)
    return np.concatenate([chunk.frames for chunk in chunks]).tobytes()


def test_samplers_at_once_on_one_model_make_what_they_make_in_turn(folder: Path) -> None:
    model = load_model(str(folder), "cpu", torch.float32)
    expected = [video(model, number) for number in range(len(JOBS))]
    together = Barrier(len(JOBS))

    def started(number: int) -> bytes:
        together.wait()
        return video(model, number)

    with ThreadPoolExecutor(len(JOBS)) as threads:
        for _ in range(2):
            assert list(threads.map(started, range(len(JOBS)))) == expected
    assert len(set(expected)) == len(JOBS)
