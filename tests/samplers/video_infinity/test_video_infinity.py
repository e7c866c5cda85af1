"""Video-Infinity's settings, plan, prompts and runs on the toy model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from longtake.errors import InputError
from longtake.model import Condition
from longtake.models.toy import Toy
from longtake.models.toy_spec import TOY
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.clips import held_frames, released_global_frames, split_evenly, spread_frames
from longtake.samplers.joint import blended
from longtake.samplers.run import Prompts
from longtake.samplers.video_infinity.loop import prepare
from longtake.samplers.video_infinity.plan import VideoInfinity

from ..decoders import Repeating

TWO_PROMPTS = PromptTimeline((0, 12), ("a", "b"))


def request(frames=24, prompts=TWO_PROMPTS, **settings):
    return Request(prompts=prompts, frames=frames, **{"steps": 6, **settings})


def video(sampler, wanted, world=ALONE, resume=None, model=None):
    model = model or Toy()
    plan = sampler.plan(wanted, model.spec)
    return list(run_plan(model, plan, seeded_noise(wanted.seed), world, resume))


def pixels(chunks):
    return np.concatenate([chunk.frames for chunk in chunks])


@pytest.mark.parametrize(
    ("settings", "frames", "message"),
    [
        ({}, None, "endless"),
        ({"clips": 0}, 24, "clips is 0"),
        ({"clips": 25}, 24, "cannot be cut into 25 clips"),
        ({"padding": -1}, 24, "padding is -1"),
        ({"top_k": -1}, 24, "top_k is -1"),
        ({"eta": 1.5}, 24, "eta is 1.5"),
        ({"attn_scale": 0.0}, 24, "attn_scale is 0.0"),
        ({"attn_scale": 1e308}, 24, "attn_scale is 1e.308"),
        ({"local_phase": (800, float("nan"), 0.0)}, 24, "local_phase adds"),
        ({"global_phase": (800, 0.0, 1e300)}, 24, "global_phase adds"),
        ({}, 10**12, "all 1000000000000 frames at once"),
        ({"decode_batch": 0}, 24, "decode_batch is 0"),
        ({"compat": True, "clips": 5}, 24, "clips of one length"),
        ({"compat": True, "blend": 4}, 24, "blend has no effect with compat"),
        ({"blend": 13}, 24, "longer than a prompt of 12"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(settings, frames, message):
    with pytest.raises(InputError, match=message) as refusal:
        VideoInfinity(**settings).plan(request(frames), TOY)
    assert "\n" not in str(refusal.value)


def test_a_blend_of_one_prompt_is_refused():
    with pytest.raises(InputError, match="blend has no effect on a single prompt"):
        VideoInfinity(blend=4).plan(request(prompts=PromptTimeline.constant("a")), TOY)


def test_more_processes_than_clips_are_refused():
    sampler = VideoInfinity(clips=3)
    plan = sampler.plan(request(), TOY)
    sampler.check_ranks(plan, 3)
    with pytest.raises(InputError, match="give at least as many: --sampler.clips 4"):
        sampler.check_ranks(plan, 4)


def test_the_defaults_are_the_release_s():
    assert (VideoInfinity().padding, VideoInfinity().top_k, VideoInfinity().attn_scale) == (24, 16, 1.0)
    assert VideoInfinity().plan(request(steps=None), TOY).num_levels == 30


def test_phases_add_up_where_both_apply():
    plan = VideoInfinity(local_phase=(850, 10.0, 1.0), global_phase=(800, 2.0, 20.0)).plan(request(), TOY)
    assert plan.weights(900.0) == (2.0, 20.0)
    assert plan.weights(820.0) == (12.0, 21.0)
    assert plan.weights(100.0) == (10.0, 1.0)
    assert VideoInfinity(local_phase=None, global_phase=None).plan(request(), TOY).weights(500.0) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("num_clips", "length", "top_k", "expected"),
    [
        (4, 12, 20, [*range(0, 12, 2), *range(12, 24, 2), *range(24, 36, 2), 36, 38]),
        (2, 8, 8, [0, 2, 4, 6, 8, 10, 12, 14]),
        (4, 8, 2, [0, 8]),
        (2, 3, 20, [0, 1, 2, 3, 4, 5]),
        (3, 8, 0, []),
    ],
    ids=["the cut takes from the last clip", "even", "fewer than clips", "more than frames", "none"],
)
def test_released_global_frames(num_clips, length, top_k, expected):
    assert list(released_global_frames(split_evenly(num_clips * length, num_clips), top_k)) == expected


@pytest.mark.parametrize("total", [1, 7, 100])
@pytest.mark.parametrize("count", [1, 3, 16])
def test_global_frames_are_spread_over_the_whole_video(total, count):
    frames = spread_frames(total, count)
    assert len(set(frames)) == min(count, total) and all(0 <= frame < total for frame in frames)
    assert abs(sum(frames) / len(frames) - (total - 1) / 2) <= 0.5


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 7])
def test_ranks_hold_neighbouring_clips_and_no_frame_twice(num_ranks):
    held = held_frames(split_evenly(50, 7), num_ranks)
    assert [frame for frames in held for frame in frames] == list(range(50))
    assert all(held)


def test_noise_belongs_to_the_frame_not_to_the_clips():
    def start(clips, compat=False):
        plan = VideoInfinity(clips=clips, compat=compat).plan(request(), TOY)
        return prepare(Toy(), plan, seeded_noise(3), ALONE).draw("frame")

    assert torch.equal(start(2), start(5))
    assert not torch.equal(start(2, compat=True), start(4, compat=True))


def test_the_number_of_clips_only_shares_out_the_work():
    first = pixels(video(VideoInfinity(clips=2, padding=3, top_k=4), request()))
    second = pixels(video(VideoInfinity(clips=5, padding=3, top_k=4), request()))
    assert np.array_equal(first, second)


def test_compat_holds_one_prompt_a_clip():
    plan = VideoInfinity(clips=3, compat=True).plan(request(prompts=PromptTimeline((0, 10), ("a", "b"))), TOY)
    setting = prepare(Toy(), plan, seeded_noise(0), ALONE)
    assert setting.held.prompt_index[0].tolist() == [1] * 16 + [2] * 8


class Numbered(Toy):
    """Embeds a prompt as the number that it is."""

    def encode(self, prompts):
        text = torch.tensor([[float(prompt or 0)] for prompt in prompts])
        return Condition({"text": text, "weight": text.sum(1) / 10})


def test_a_blend_moves_evenly_from_one_prompt_to_the_next():
    order = request(prompts=PromptTimeline((0, 8, 900), ("10", "20", "30")))
    condition, rows = blended(Prompts(Numbered(), order), order.prompts, range(16), 4)
    assert condition.rows["text"][rows][:, 0].tolist() == [10.0] * 6 + [11.25, 13.75, 16.25, 18.75] + [20.0] * 6
    assert condition.rows["weight"][rows].tolist() == [1.0] * 6 + [1.125, 1.375, 1.625, 1.875] + [2.0] * 6
    condition, rows = blended(Prompts(Numbered(), order), order.prompts, range(16), 0)
    assert condition.rows["text"].tolist() == [[0.0], [10.0], [20.0]] and rows == [1] * 8 + [2] * 8


def test_prompts_blend_only_where_the_model_says_so():
    story = request(prompts=PromptTimeline((0, 10), ("a", "b")))
    rigid = replace(TOY, blends=False)
    assert VideoInfinity().plan(story, rigid).forwards
    with pytest.raises(InputError, match="blend needs prompts that have a mean, which those of toy have not; leave"):
        VideoInfinity(blend=4).plan(story, rigid)


def from_state(world, clips, state):
    torch.set_num_threads(1)
    return pixels(video(VideoInfinity(clips=clips, padding=5, eta=0.5), request(frames=29), world, state))


@pytest.mark.parametrize("place", [2, 6, 8], ids=["while denoising", "before decoding", "while decoding"])
def test_another_number_of_processes_goes_on_from_a_state(place, ranks):
    whole = video(VideoInfinity(clips=4, padding=5, eta=0.5), request(frames=29))
    rest = ranks.run(3, from_state, 4, whole[place].state())[0]
    expected = pixels(whole[place + 1 :])
    assert rest.shape == expected.shape
    assert np.abs(rest.astype(int) - expected).max() <= 1


def remembered(world, resume):
    torch.set_num_threads(1)
    made = video(VideoInfinity(clips=3, decode_batch=4), request(frames=20), world, resume, Repeating(2))
    return [(chunk.start, chunk.frames) for chunk in made], made[len(made) // 2].state()


def test_a_decoder_that_remembers_is_given_the_frames_in_order(ranks):
    whole, state = remembered(ALONE, None)
    assert [start + len(frames) for start, frames in whole][-1] == 20
    shared = ranks.run(2, remembered, None)
    assert np.array_equal(np.concatenate([f for _, f in whole]), np.concatenate([f for _, f in shared[0][0]]))
    assert not any(len(frames) for _, frames in shared[1][0])
    again, _ = remembered(ALONE, state)
    assert np.array_equal(again[-1][1], whole[-1][1]) and len(again) < len(whole)
