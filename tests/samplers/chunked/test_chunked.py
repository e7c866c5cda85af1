from dataclasses import replace

import numpy as np
import pytest
import torch

from longtake.decoding import Decoder
from longtake.errors import InputError
from longtake.model import Timing, VideoSpec
from longtake.models.toy import Toy
from longtake.models.toy_spec import TOY
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.chunked.loop import prepare, sample
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.run import Progress

from ..decoders import Repeating


def planned(frames: int | None = 40, spec: VideoSpec = TOY, steps=None, prompts=None, **settings):
    request = Request(prompts=prompts or PromptTimeline.constant("a"), frames=frames, seed=3, guidance=2.0, steps=steps)
    return Chunked(**settings).plan(request, spec)


def chunks(frames=40, model=None, resume=None, noise=None, **settings):
    plan = planned(frames, **settings)
    return run_plan(model or Toy(), plan, noise or seeded_noise(3), ALONE, resume)


def video(**settings):
    return np.concatenate([chunk.frames for chunk in chunks(**settings)])


@pytest.mark.parametrize("overlap", [0, 1, 3, 7])
@pytest.mark.parametrize("frames", [1, 8, 9, 40, 41])
def test_new_frames_tile_the_video(frames, overlap):
    plan = planned(frames, overlap=overlap)
    assert plan.windows is not None
    new = [frame for window in range(plan.windows) for frame in plan.frames(window)[plan.shared(window) :]]
    assert new == list(range(len(new)))
    assert frames <= len(new) < frames + 8
    assert plan.decoded == len(new)


def test_counts():
    assert planned(40).forwards == 2 * 30 * 5
    assert planned(40, steps=4, overlap=4).forwards == 2 * 4 * 9
    assert planned(None, steps=4, overlap=4).forwards_per_frame == 2.0
    assert planned(None).windows is None


def test_clips_of_a_causal_autoencoder_begin_anew():
    """Its first latent is one pixel frame, the others four each: 8 latents are 29 frames."""
    causal = replace(TOY, timing=Timing(stride=4))
    plan = planned(60, causal, prompts=PromptTimeline((0, 30), ("a", "b")))
    assert plan.windows == 3 and plan.pixel_start(1) == 29
    assert plan.prompts(0) == [1] * 8 and plan.prompts(1) == [1] + [2] * 7


@pytest.mark.parametrize(("overlap", "stride"), [(0, 1), (3, 1), (7, 1), (0, 4)])
def test_seams_are_where_a_new_window_comes_out(overlap, stride):
    model = Repeating(stride)
    plan = planned(70, model.spec, steps=1, overlap=overlap)
    made = list(run_plan(model, plan, seeded_noise(3), ALONE, None))
    assert list(plan.seams(70)) == [chunk.start for chunk in made[1:]]
    assert not plan.seams(8)


@pytest.mark.parametrize("settings", [{"overlap": 8}, {"overlap": -1}, {"eta": 1.5}])
def test_settings_that_cannot_work_are_refused(settings):
    with pytest.raises(InputError):
        planned(**settings)


def test_overlap_needs_a_latent_for_every_frame():
    for spec in (replace(TOY, timing=Timing(stride=4)), replace(TOY, latent_shape=(3, 8, 64))):
        with pytest.raises(InputError, match="a latent for every frame"):
            planned(spec=spec, overlap=2)


def test_clips_do_not_know_of_each_other():
    """Without overlap a long video begins as a short one, and its second clip needs nothing of the first."""
    whole = video(frames=24)
    assert np.array_equal(video(frames=8), whole[:8])
    begun = Progress(window=1, decoder=Decoder(frames=8))
    rest = [chunk.frames for chunk in chunks(frames=24, resume=begun.state())]
    assert np.array_equal(np.concatenate(rest), whole[8:])


def test_start_noise_belongs_to_frames():
    """A frame is drawn once by its number, whichever window it is in; only renewed noise is named otherwise."""
    drawn = []

    def noise(shape, stream, *key):
        drawn.append((stream, *key))
        return seeded_noise(3)(shape, stream, *key)

    list(chunks(frames=20, steps=2, overlap=4, noise=noise))
    assert {key for key in drawn if key[0] == "frame"} == {("frame", frame) for frame in range(20)}
    assert {key for key in drawn if key[0] == "tail"} == {
        ("tail", frame, level) for frame in range(4, 16) for level in (1, 2)
    }


def test_shared_frames_are_kept():
    plan, model = planned(40, overlap=3), Toy()
    setting = prepare(model, plan, seeded_noise(3))
    first = sample(setting, 0, None)
    second = sample(setting, 1, first[:, -3:])
    assert torch.equal(second[:, :3], first[:, -3:])


def seam_over_rest(overlap):
    plan, frames = planned(160, overlap=overlap), video(frames=160, overlap=overlap)
    assert plan.windows is not None
    change = np.abs(np.diff(frames.astype(float), axis=0)).mean((1, 2, 3))
    starts = [plan.pixel_start(window) + plan.shared(window) for window in range(1, plan.windows)]
    seams = [start - 1 for start in starts if start < 160]
    return change[seams].mean() / np.delete(change, seams).mean()


def test_overlap_makes_seams_smaller():
    """The toy's frames wander slowly, and clips that know nothing of each other jump (measured: 3.9 and 2.2)."""
    alone, together = seam_over_rest(0), seam_over_rest(4)
    assert alone > 3 and together < 0.7 * alone


def test_eta_draws_fresh_noise():
    assert not np.array_equal(video(eta=1.0), video())
    assert np.array_equal(video(eta=1.0), video(eta=1.0))


def test_ranks_cannot_share_windows_that_need_each_other():
    plan = planned(overlap=2)
    plan.settings.check_ranks(plan, 1)
    with pytest.raises(InputError, match="overlap 0"):
        plan.settings.check_ranks(plan, 2)
    planned().settings.check_ranks(planned(), 3)
