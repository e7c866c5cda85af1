"""What FIFO-Diffusion costs: python -m lab measure fifo [--parts speed options memory] [--report out.json].

Reports, for one model in one process: network evaluations per frame; the time of FIFO's loop over that of as many bare
network calls (what the loop itself costs); frames per second with and without decoding; peak memory after 200 frames
and at the end; and for every option beyond the paper its gain in time and its distance from the exact video.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from lab.common import machine, measured_model, median_seconds
from longtake.machine import peak_memory
from longtake.model import PerFrameNoise
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.fifo.loop import advance, base_clip, fill, prepare, shift
from longtake.samplers.fifo.plan import Fifo, realtime

PROMPT = "a rocket flies up through the night sky"
OPTIONS = {
    "guided_windows": {"guided_windows": 3},
    "plain_partitions": {"plain_partitions": 1},
    "short_warmup": {"short_warmup": True},
    "frames_per_level": {"frames_per_level": 2},
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured."""

    model: str = "sprites"
    parts: tuple[Literal["counts", "speed", "options", "memory"], ...] = ("counts", "speed", "options", "memory")
    frames: int = 5000  # length of the memory run


def request(frames: int | None) -> Request:
    """Return the bench's request."""
    return Request(prompts=PromptTimeline.constant(PROMPT), frames=frames, seed=1)


@torch.inference_mode()
def loop_overhead(model: PerFrameNoise, fifo: Fifo, iterations: int = 12) -> dict[str, float]:
    """Return the time of whole iterations over that of their network calls alone, decoding left out of both.

    Bare calls and iterations alternate, so that a busy machine slows both alike.
    """
    plan = fifo.plan(request(None), model.spec)
    setting = prepare(model, plan, seeded_noise(1))
    queue = fill(setting, base_clip(setting))
    batch = plan.window_batch
    x = torch.stack([queue.frames[:, : plan.spec.num_frames]] * batch)
    level = torch.arange(1, plan.spec.num_frames + 1).clamp(max=plan.num_levels).expand(batch, -1)
    given = setting.windows(setting.schedule, torch.ones_like(level).tolist())
    ratios, bare_times = [], []
    for _ in range(iterations):
        call = partial(model.denoise, x, level, given.schedule, given.condition, given.prompt_index)
        bare = median_seconds(call, 3) / batch
        start = time.perf_counter()
        updated, emitted = advance(setting, queue)
        queue = shift(setting, queue, updated, emitted)
        took = time.perf_counter() - start
        ratios.append(took / (plan.forwards_per_frame * fifo.frames_per_level * bare))
        bare_times.append(bare)
    return {"loop_over_bare_calls": float(np.median(ratios)), "bare_forward_seconds": float(np.median(bare_times))}


@torch.inference_mode()
def speed(model: PerFrameNoise, fifo: Fifo, frames: int = 48) -> dict[str, float]:
    """Return frames per second once the queue is under way, decoding included, and the video's own rate beside it."""
    stream = run_plan(model, fifo.plan(request(None), model.spec), seeded_noise(1), ALONE, None)
    while not len(next(stream).frames):
        pass
    made, start = 0, time.perf_counter()
    while made < frames:
        made += len(next(stream).frames)
    return {"frames_per_second": made / (time.perf_counter() - start), "video_rate": model.spec.fps}


@torch.inference_mode()
def memory(model: PerFrameNoise, fifo: Fifo, frames: int) -> dict[str, float]:
    """Return peak resident memory after 200 frames and after `frames`."""
    early, made = 0, 0
    for chunk in run_plan(model, fifo.plan(request(frames), model.spec), seeded_noise(1), ALONE, None):
        made = chunk.start + len(chunk.frames)
        if not early and made >= 200:
            early = peak_memory()
    late = peak_memory()
    return {"frames": made, "peak_bytes_at_200": early, "peak_bytes_at_end": late, "growth": late / early - 1}


@torch.inference_mode()
def options(model: PerFrameNoise, fifo: Fifo, frames: int = 64) -> dict[str, dict[str, float]]:
    """Return for every option beyond the paper its time over that of the exact run, and the distance of its pixels.

    Distances are mean differences in grey levels (0 to 255), of the same seed; "another seed" gives their scale.
    """
    exact_plan = fifo.plan(request(frames), model.spec)
    exact, exact_seconds = _video(model, fifo, frames)
    report = {}
    for name, changes in OPTIONS.items():
        changed = replace(fifo, **changes)
        plan = changed.plan(request(frames), model.spec)
        video, seconds = _video(model, changed, frames)
        assert plan.forwards is not None and exact_plan.forwards is not None
        report[name] = {
            "setting": changes[name],
            "forwards_over_exact": plan.forwards / exact_plan.forwards,
            "time_over_exact": seconds / exact_seconds,
            "steady_forwards_over_exact": plan.forwards_per_frame / exact_plan.forwards_per_frame,
            "mean_pixel_difference": float(np.abs(video.astype(int) - exact).mean()),
        }
    another, _ = _video(model, fifo, frames, seed=2)
    difference = float(np.abs(another.astype(int) - exact).mean())
    return {**report, "another seed": {"mean_pixel_difference": difference}}


def _video(model: PerFrameNoise, fifo: Fifo, frames: int, seed: int = 1) -> tuple[np.ndarray, float]:
    """Return a video and the seconds that it took."""
    plan = fifo.plan(replace(request(frames), seed=seed), model.spec)
    start = time.perf_counter()
    video = np.concatenate([chunk.frames for chunk in run_plan(model, plan, seeded_noise(seed), ALONE, None)])
    return video, time.perf_counter() - start


def counts(model: PerFrameNoise) -> dict[str, float]:
    """Return network evaluations per frame of video for some settings."""
    settings = [Fifo(partitions=n, lookahead=lookahead) for n in (1, 2, 4) for lookahead in (False, True)]
    return {
        f"partitions={fifo.partitions} lookahead={fifo.lookahead}": fifo.plan(
            request(None), model.spec
        ).forwards_per_frame
        for fifo in settings
    }


PARTS: dict[str, Callable[[PerFrameNoise, int], dict[str, Any]]] = {
    "counts": lambda model, frames: counts(model),
    "speed": lambda model, frames: {
        "default": {**loop_overhead(model, Fifo()), **speed(model, Fifo())},
        "realtime": {**loop_overhead(model, realtime()), **speed(model, realtime())},
    },
    "options": lambda model, frames: options(model, Fifo(partitions=2)),
    "memory": lambda model, frames: memory(model, realtime(), frames),
}


def measure(chosen: Settings) -> dict[str, object]:
    """Return the report."""
    model, head = measured_model(chosen.model, PerFrameNoise)
    return {"machine": machine(), **head, **{part: PARTS[part](model, chosen.frames) for part in chosen.parts}}
