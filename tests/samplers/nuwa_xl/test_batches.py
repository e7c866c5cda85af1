"""Calls of the tree that go through the network alone or together, and what they hold."""

import numpy as np
import pytest

from .test_nuwa_xl import chunks, planned, toy, video


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("settings", [{}, {"eta": 1.0, "handoff": "pixel"}, {"depth": 2}])
def test_calls_made_together_are_counted_and_change_nothing(settings, slots, monkeypatch):
    serial, _ = video(planned(65, steps=2, guidance=2.0, **settings))
    model, denoised = toy(), []
    plan = planned(65, steps=2, guidance=2.0, window_batch=3, **settings)
    denoise = model.denoise
    monkeypatch.setattr(model, "denoise", lambda x, *rest: denoised.append(len(x)) or denoise(x, *rest))
    batched, executor = video(plan, model=model, slots=slots)
    assert np.abs(serial.astype(int) - batched).max() <= 1
    assert (sum(denoised), len(executor.done)) == (plan.forwards, plan.tasks)
    assert max(denoised) <= plan.window_batch == 3 and (slots > 1 or max(denoised) == 3)


def test_a_batch_holds_at_most_as_much_as_the_plan_says():
    """The finest results leave the store one by one; the others of their batch wait beside it."""
    plan, held = planned(65, window_batch=4), []
    for chunk in chunks(plan)[0]:
        held.append(sum(tensor.shape[1] for name, tensor in chunk.state().items() if name.startswith("node.")))
    assert max(held) + (4 - 1) * 5 <= plan.held_frames == (1 + 4 + 4) * 5


@pytest.mark.parametrize(("frames", "asked", "made"), [(17, 9, 4), (65, 9, 9), (65, 99, 16), (30, 99, 8)])
def test_no_batch_is_larger_than_a_level_has_calls(frames, asked, made):
    assert planned(frames, window_batch=asked).window_batch == made


def test_one_worker_holds_a_window_a_level():
    plan = planned(65, steps=1)
    for chunk in chunks(plan)[0]:
        held = sum(tensor.shape[1] for name, tensor in chunk.state().items() if name.startswith("node."))
        assert held <= plan.held_frames == 3 * 5
