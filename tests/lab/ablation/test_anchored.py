import numpy as np
import pytest

from lab.ablation.anchored import compared, global_frames, means, requested, timeline_of
from longtake.data.sprites import is_held_out
from longtake.errors import InputError
from longtake.models.toy import Toy
from longtake.samplers.fifo.plan import Fifo
from longtake.samplers.nuwa_xl.plan import NuwaXl


def test_a_story_has_four_trained_shots_of_one_length():
    timeline = timeline_of("story", 226, 3)
    assert list(timeline) == [0, 56, 113, 169] and list(timeline_of("one prompt", 226, 3)) == [0]
    assert not any(is_held_out(shot) for shot in timeline.values())
    assert timeline != timeline_of("story", 226, 4)


def test_keyframes_are_the_first_call_of_the_tree():
    """Of 50 frames every seventh: the toy's window has 8. It is a clip for each of four prompts."""
    model = Toy()
    request = requested(timeline_of("story", 50, 0), 50, seed=2)
    keyframes, forwards = global_frames(model, request)
    assert len(keyframes) == 8 and forwards == 4 * 30
    with pytest.raises(InputError, match="ask for 50"):
        global_frames(model, requested(timeline_of("story", 47, 0), 47, seed=2))


def test_every_sampler_is_given_keyframes_at_the_same_frames(tmp_path):
    keyframes = np.zeros((16, 64, 64, 3), np.uint8)
    rows = compared(keyframes, tmp_path, chunked=True)
    few, tree = rows["fifo, keyframes 4"], rows["nuwa-xl, keyframes 16"]
    assert isinstance(few, Fifo) and isinstance(tree, NuwaXl)
    assert few.keyframes and len(list((tmp_path / "every-5").iterdir())) == 4
    assert tree.keyframes and len(list((tmp_path / "every-1").iterdir())) == 16
    assert list(rows)[:2] == ["fifo", "fifo, keyframes 16"] and "chunked, keyframes 16" in rows


def test_means_leave_out_what_some_videos_do_not_have():
    videos = [{"fifo": {"last": 1.0, "seam": None}}, {"fifo": {"last": 0.0, "seam": None}}]
    assert means(videos) == {"fifo": {"last": 0.5}}
