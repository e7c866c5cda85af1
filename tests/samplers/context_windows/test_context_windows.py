"""Context windows: where they lie, what they count, and what comes of them on the toy model."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from longtake import load_model, stream
from longtake.errors import CapabilityError, InputError
from longtake.models import model_spec
from longtake.models.toy import Toy
from longtake.models.toy_spec import TOY
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.sampler import Sampler
from longtake.samplers import run_plan, samplers_of
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.context_windows.plan import ContextWindows, ContextWindowsPlan, fuse_weights, loop, mirrored
from longtake.samplers.planning import checked_plan

ONE = PromptTimeline.constant("a")
UNIFORM = ("standard_uniform", "looped_uniform")


def planned(frames: int = 24, **settings: Any) -> ContextWindowsPlan:
    return ContextWindows(**settings).plan(Request(prompts=ONE, frames=frames, steps=4), TOY)


def video(sampler: Sampler, frames: int, model: Toy | None = None, **request: Any) -> np.ndarray:
    model = model or Toy()
    plan = sampler.plan(Request(prompts=ONE, frames=frames, steps=4, **request), model.spec)
    chunks = run_plan(model, plan, seeded_noise(plan.request.seed), ALONE, None)
    return np.concatenate([chunk.frames for chunk in chunks]).astype(int)


@pytest.mark.parametrize(
    ("settings", "frames", "message"),
    [
        ({}, None, "endless"),
        ({"context_length": 9}, 24, "must be 1 to 8"),
        ({"context_overlap": 8}, 24, "context_overlap is 8; it must be 0 to 7"),
        ({"context_stride": 0}, 24, "context_stride is 0"),
        ({"window_batch": 0}, 24, "window_batch is 0"),
        ({"context_stride": 2}, 24, "context_stride has no effect with the context_schedule standard_static"),
        ({"closed_loop": True, "context_schedule": "standard_uniform"}, 24, "closed_loop has no effect"),
        ({"context_overlap": 2, "context_schedule": "batched"}, 24, "context_overlap has no effect"),
        ({"fuse_method": "flat", "context_schedule": "batched"}, 24, "fuse_method has no effect"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(settings: dict[str, Any], frames: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        planned(frames, **settings)
    assert "\n" not in str(refusal.value)


def test_latents_without_frames_are_refused() -> None:
    with pytest.raises(CapabilityError, match="needs latents with frames, which pvdm-sprites has not; use chunked"):
        checked_plan(model_spec("pvdm-sprites"), Request(prompts=ONE, frames=24), ContextWindows())
    assert samplers_of(model_spec("pvdm-sprites")) == ["autoregressive", "chunked"]


def test_windows_of_the_static_schedules() -> None:
    windows = planned(21, context_overlap=2).windows(0)
    assert [(window[0], window[-1]) for window in windows] == [(0, 7), (6, 13), (12, 19), (13, 20)]
    batched = planned(20, context_schedule="batched")
    assert [(window[0], window[-1]) for window in batched.windows(3)] == [(0, 7), (8, 15), (12, 19)]
    assert batched.weights(batched.windows(3))[-1] == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("step", [0, 1, 2, 3])
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("schedule", UNIFORM)
def test_windows_of_the_uniform_schedules_move_and_miss_no_frame(schedule: Any, stride: int, step: int) -> None:
    plan = planned(40, context_schedule=schedule, context_stride=stride)
    windows, before = plan.windows(step), plan.windows(step + 1)
    assert {frame for window in windows for frame in window} == set(range(40)) and windows != before
    assert len(set(windows)) == len(windows) and all(len(set(window)) == 8 for window in windows)
    apart = {(window[1] - window[0]) % 40 for window in windows}
    assert apart == ({1} if stride == 1 else {1, 2, 4})
    goes_round = [window for window in windows if list(window) != sorted(window)]
    assert bool(goes_round) == (schedule == "looped_uniform")


def test_starts_move_by_halves_of_halves() -> None:
    assert [mirrored(step) for step in range(6)] == [0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8]


def test_windows_count_as_their_method_says() -> None:
    inner = tuple(range(4, 12))
    assert fuse_weights("flat", inner, 2, 24) == [1] * 8
    assert fuse_weights("pyramid", inner, 2, 24) == [1, 2, 3, 4, 4, 3, 2, 1]
    relative = fuse_weights("relative", inner, 2, 24)
    assert relative == relative[::-1] == pytest.approx([0.01, 0.287, 0.572, 0.857, 0.857, 0.572, 0.287, 0.01], abs=2e-3)
    ramp = [1 / 3, 2 / 3]
    assert fuse_weights("overlap-linear", inner, 2, 24) == pytest.approx([*ramp, 1, 1, 1, 1, *ramp[::-1]])
    assert fuse_weights("overlap-linear", tuple(range(8)), 2, 24) == pytest.approx([1] * 6 + ramp[::-1])
    assert fuse_weights("overlap-linear", tuple(range(16, 24)), 2, 24) == pytest.approx(ramp + [1] * 6)


def test_windows_that_share_nothing_are_those_of_chunked() -> None:
    """Of as many frames as the model takes, it is ordinary sampling whatever the schedule; batched, clip by clip."""
    expected = video(Chunked(), 20)
    assert np.abs(video(ContextWindows(context_schedule="batched"), 16) - expected[:16]).max() <= 1
    for schedule in ("standard_static", *UNIFORM):
        assert np.abs(video(ContextWindows(context_schedule=schedule), 5) - expected[:5]).max() <= 1


@pytest.mark.parametrize("fuse", ["pyramid", "relative", "flat", "overlap-linear"])
def test_a_frame_is_the_mean_of_what_its_windows_say(fuse: Any) -> None:
    """One step from noise to x0: against the network called window by window."""
    model, sampler = Toy(torch.float64), ContextWindows(fuse_method=fuse, context_overlap=3, window_batch=2)
    plan = sampler.plan(Request(prompts=ONE, frames=18, steps=1, guidance=1.0), TOY)
    *_, last = run_plan(model, plan, seeded_noise(0), ALONE, None)
    noise, schedule = seeded_noise(0), model.schedule(1)
    x = torch.stack([noise((3, 8, 8), "frame", frame) for frame in range(18)], dim=1)[None].double()
    total, count = torch.zeros_like(x), torch.zeros(18, dtype=torch.float64)
    windows = plan.windows(0)
    for window, weight in zip(windows, plan.weights(windows), strict=True):
        span = slice(window[0], window[-1] + 1)
        level, rows = torch.ones((1, 8), dtype=torch.long), torch.ones((1, 8), dtype=torch.long)
        x0 = model.denoise(x[:, :, span], level, schedule, model.encode(["", "a"]), rows)
        total[:, :, span] += x0 * torch.tensor(weight)[:, None, None]
        count[span] += torch.tensor(weight)
    torch.testing.assert_close(last.state()["latents"][None], total / count[:, None, None], atol=1e-6, rtol=1e-6)


def test_overlap_takes_the_jumps_out_of_the_seams() -> None:
    """The toy wanders slowly; clips that know nothing of each other jump where one ends."""

    def jumps(frames: np.ndarray) -> float:
        steps = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
        return steps[7::8].mean() / np.delete(steps, np.s_[7::8]).mean()

    apart, joined = (video(ContextWindows(context_schedule=each), 64) for each in ("batched", "standard_uniform"))
    assert jumps(apart) > 1.5 * jumps(joined)


@pytest.mark.parametrize("seed", range(3))
def test_the_last_step_of_a_loop_is_one_as_any_other(seed: int) -> None:
    """The step from the last frame to the first, against all others; a straight video has a jump there."""

    def steps(sampler: ContextWindows) -> tuple[float, np.ndarray]:
        frames = video(sampler, 40, seed=seed)
        each = np.abs(np.roll(frames, -1, axis=0) - frames).mean((1, 2, 3))
        return each[-1], each[:-1]

    (seam, others), (jump, straight) = (
        steps(loop()),
        steps(replace(loop(), closed_loop=False, context_schedule="standard_static")),
    )
    assert others.min() <= seam <= others.max() and jump > straight.max()


@pytest.mark.slow
def test_the_last_step_of_a_loop_of_sprites_is_one_as_any_other() -> None:
    request = Request(prompts="a rocket flies up through the night sky", frames=48, steps=20)
    frames = np.concatenate(list(stream(load_model("sprites"), request, loop()))).astype(int)
    each = np.abs(np.roll(frames, -1, axis=0) - frames).mean((1, 2, 3))
    assert each[-1] <= each[:-1].max()


def test_what_makes_no_loop_is_refused() -> None:
    with pytest.raises(InputError, match="closed_loop needs more frames than one window, which has 8; give more, or"):
        loop().plan(Request(prompts=ONE, frames=8), TOY)
    causal = replace(TOY, decoder_history=2)
    with pytest.raises(CapabilityError, match="that of toy begins anew at the first frame, which would not join"):
        loop().plan(Request(prompts=ONE, frames=40), causal)


def test_freenoise_begins_with_the_noise_of_one_window() -> None:
    assert not np.array_equal(video(ContextWindows(freenoise=True), 24), video(ContextWindows(), 24))
