"""Rounds of tasks on real processes."""

import numpy as np
import pytest
import torch

from longtake.models.toy import Toy
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.nuwa_xl.plan import NuwaXl


def made(world, settings, frames):
    """The frames of one rank, and how many calls it made."""
    torch.set_num_threads(1)
    model, sampler, calls = Toy(), NuwaXl(**settings), []
    denoise = model.denoise
    model.denoise = lambda *args: calls.append(1) or denoise(*args)
    plan = sampler.plan(Request(prompts=PromptTimeline.constant("a"), frames=frames, seed=3, steps=1), model.spec)
    video = np.concatenate([chunk.frames for chunk in run_plan(model, plan, seeded_noise(3), world, None)])
    return video, len(calls)


@pytest.mark.parametrize(
    ("settings", "frames", "size", "calls"),
    [
        ({}, 50, 2, [5, 3]),
        ({"window_batch": 3}, 50, 2, [3, 1]),
        ({"fit": "stretch"}, 30, 3, [3, 2, 1]),
        ({"depth": 1}, 22, 2, [3, 0]),
        ({}, 5, 4, [1, 0, 0, 0]),
    ],
)
def test_a_round_is_a_task_for_each(settings, frames, size, calls, ranks):
    alone, _ = made(ALONE, settings, frames)
    first, *others = ranks.run(size, made, settings, frames)
    assert np.abs(first[0].astype(int) - alone).max() <= ("window_batch" in settings)
    assert not any(len(video) for video, _ in others)
    assert [count for _, count in (first, *others)] == calls
