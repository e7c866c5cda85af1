"""FreeNoise's noise, windows and weights against diffusers' own, and its attention against one window after another."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention import FreeNoiseTransformerBlock
from diffusers.pipelines.free_noise_utils import AnimateDiffFreeNoiseMixin

from longtake.errors import InputError
from longtake.models.toy import Toy
from longtake.models.toy_spec import TOY
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.clips import noise_sources, window_weights
from longtake.samplers.freenoise.loop import WindowMixer
from longtake.samplers.freenoise.plan import FreeNoise, FreeNoisePlan
from longtake.samplers.joint import Neighbours, shuffled_by

from ...models.mixers import PlainMixer


def planned(frames: int = 24, **settings: Any) -> FreeNoisePlan:
    request = Request(prompts=PromptTimeline((0, 12), ("a", "b")), frames=frames, steps=4)
    return FreeNoise(**settings).plan(request, TOY)


@pytest.mark.parametrize(
    ("settings", "frames", "message"),
    [
        ({}, None, "endless"),
        ({}, 10**12, "all 1000000000000 frames at once"),
        ({"context_length": 9}, 24, "must be 1 to 8, the latent frames that toy takes at once"),
        ({"context_length": 0}, 24, "context_length is 0"),
        ({"context_stride": 9}, 24, "context_stride is 9; it must be 1 to 8"),
        ({"context_stride": 0}, 24, "context_stride is 0"),
        ({"eta": 1.5}, 24, "eta is 1.5"),
        ({"blend": 13}, 24, "longer than a prompt of 12"),
        ({"decode_batch": 0}, 24, "decode_batch is 0"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(settings: dict[str, Any], frames: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        planned(frames, **settings)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("frames", "length", "stride"), [(24, 8, 4), (23, 8, 4), (8, 8, 3), (9, 8, 1), (5, None, 2)])
def test_windows_are_those_of_diffusers_and_count_in_every_frame(frames: int, length: Any, stride: int) -> None:
    plan = planned(frames, context_length=length, context_stride=stride)
    like: Any = SimpleNamespace(context_length=plan.window, context_stride=stride)
    regular = FreeNoiseTransformerBlock._get_frame_indices(like, frames)
    rest = [] if regular[-1][1] == frames else [(frames - plan.window, frames)]
    assert [(window.start, window.stop) for window in plan.windows] == regular + rest
    total = np.zeros(frames)
    for window, weights in zip(plan.windows, plan.weights, strict=True):
        total[window.start : window.stop] += weights
    assert (total > 0).all()


@pytest.mark.parametrize("length", [2, 4, 7, 8])
def test_weights_are_those_of_diffusers(length: int) -> None:
    theirs: Any = FreeNoiseTransformerBlock._get_frame_weights
    for scheme in ("flat", "pyramid"):
        assert window_weights(length, scheme) == theirs(None, length, scheme)
    if length % 2 == 0:  # Of an odd length theirs has one weight too many, and fails.
        assert window_weights(length, "delayed_reverse_sawtooth") == theirs(None, length, "delayed_reverse_sawtooth")
    assert window_weights(5, "delayed_reverse_sawtooth") == [0.01, 0.01, 3, 2, 1]


@pytest.mark.parametrize(("frames", "stride"), [(30, 4), (29, 4), (21, 8), (23, 3)])
def test_noise_comes_back_in_the_groups_of_diffusers(frames: int, stride: int) -> None:
    """Which order a group has is chance; which frames are in it is not."""
    ours, others = (noise_sources(frames, 8, stride, "shuffle_context", shuffled_by(seeded_noise(s))) for s in (3, 4))
    settings = {"context_length": 8, "context_stride": stride, "noise_type": "shuffle_context"}
    like: Any = SimpleNamespace(
        vae_scale_factor=1, **{f"_free_noise_{name}": value for name, value in settings.items()}
    )
    generator = torch.Generator().manual_seed(0)
    noise = AnimateDiffFreeNoiseMixin._prepare_latents_free_noise(
        like, 1, 1, frames, 1, 1, torch.float64, torch.device("cpu"), generator
    ).flatten()
    theirs = (noise[:, None] == noise[:8]).int().argmax(1).tolist()
    for sources in (ours, theirs):
        assert sources[:8] == list(range(8))
        for start in range(8, frames - stride + 1, stride):
            assert sorted(sources[start : start + stride]) == sorted(sources[start - 8 : start - 8 + stride])
    assert ours != others


def test_noise_may_come_back_in_order_or_not_at_all() -> None:
    order = shuffled_by(seeded_noise(3))
    assert noise_sources(20, 8, 2, "repeat_context", order) == [*range(8), *range(8), *range(4)]
    assert noise_sources(20, 8, 2, "random", order) == list(range(20))


def turned(keys: torch.Tensor, offsets: Any) -> torch.Tensor:
    """Pairs of channels turned by an angle in proportion to the offset of their frame, as rotary positions are."""
    pairs = torch.view_as_complex(keys.unflatten(1, (len(offsets), -1)).unflatten(-1, (-1, 2)).contiguous())
    angle = torch.tensor(list(offsets), dtype=torch.float64)[:, None] * torch.tensor([0.3, 1.1])
    return (
        torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)[:, None, None]).flatten(-2).flatten(1, 2)
    )


@pytest.mark.parametrize(("frames", "stride", "scheme"), [(11, 3, "pyramid"), (10, 4, "flat")])
def test_attention_is_the_mean_of_windows_each_by_itself(frames: int, stride: int, scheme: Any) -> None:
    """Two tokens a frame, at rotary positions; PlainMixer turns the keys anew for every query."""
    plan = planned(frames, context_stride=stride, context_length=5, weighting_scheme=scheme)
    query, key, value = torch.randn((3, 1, frames * 2, 2, 4), generator=torch.Generator().manual_seed(0)).double()
    found = WindowMixer(plan.windows, plan.weights, Neighbours([range(frames)], ALONE.clip)).attend(
        key, value, 2, turned
    )
    expected, total = torch.zeros_like(query), torch.zeros(frames * 2, dtype=torch.float64)
    for window, weights in zip(plan.windows, plan.weights, strict=True):
        inside, weight = slice(window.start * 2, window.stop * 2), torch.tensor(weights).double().repeat_interleave(2)
        answer = PlainMixer().attend(key[:, inside], value[:, inside], 2, turned)(query[:, inside])
        expected[:, inside] += answer * weight[:, None, None]
        total[inside] += weight
    torch.testing.assert_close(found(query), expected / total[:, None, None])


def test_frames_farther_apart_than_a_window_share_their_noise_and_nothing_else() -> None:
    """With steps that add nothing of their own, the toy's frames are smoothed noise: frame 8 + k has that of k."""
    one = PromptTimeline.constant("a")
    plan = FreeNoise(noise_type="repeat_context").plan(Request(prompts=one, frames=40, steps=3, guidance=1.0), TOY)
    video = np.concatenate([chunk.frames for chunk in run_plan(Toy(), plan, seeded_noise(1), ALONE, None)]).astype(int)
    # Windows of 8 every 2 frames: beyond the ends of the video, it repeats.
    assert np.abs(video[16:24] - video[8:16]).max() <= 1 and np.abs(video[1:8] - video[:7]).max() > 1
