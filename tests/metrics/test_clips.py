import numpy as np
import pytest

from longtake.data.footage import Footage, Recording
from longtake.errors import InputError
from longtake.metrics.clips import draw, draw_alike, draw_clips


def recording(name: str, num_frames: int) -> Recording:
    """A video of flat frames; the grey of a frame is its number."""

    def read(start: int, stop: int):
        return (np.full((8, 8, 3), frame, np.uint8) for frame in range(start, stop))

    return Recording(name=name, num_frames=num_frames, fps=None, read=read)


def footage(**lengths: int) -> Footage:
    return Footage(recordings=tuple(recording(name, length) for name, length in lengths.items()), size=None)


def test_clips_are_the_frames_that_were_drawn():
    drawn = draw(footage(a=30, b=9), 4, 6, seed=0)
    assert (drawn.num_clips, drawn.num_videos) == (6, 2)
    expected = [(number, start) for number, starts in enumerate(drawn.starts) for start in starts]
    found = list(drawn.clips())
    assert [(number, int(clip[0, 0, 0, 0])) for number, clip in found] == expected
    for _, clip in found:
        assert clip.shape == (4, 8, 8, 3) and list(np.diff(clip[:, 0, 0, 0])) == [1, 1, 1]


def test_copies_are_drawn_alike_by_name_whatever_the_ending():
    drawn = draw(footage(**{"x/a.avi": 30, "b.mp4": 12}), 4, 6, seed=0)
    alike = draw_alike(drawn, footage(**{"b": 12, "more": 9, "x/a.mkv": 30}))
    assert alike.starts == drawn.starts
    assert [one.name for one in alike.footage.recordings] == ["x/a.mkv", "b"]
    with pytest.raises(InputError, match="has 12 frames and b.mkv has 9"):
        draw_alike(drawn, footage(**{"x/a.avi": 30, "b.mkv": 9}))
    with pytest.raises(InputError, match="no copy of b.mp4"):
        draw_alike(drawn, footage(**{"x/a.avi": 30, "c.mkv": 12}))
    assert draw_alike(draw(footage(a=9), 4, 2, 0), footage(other=9)).num_clips == 2


def test_with_enough_videos_each_gives_one_clip_at_a_random_place():
    lengths = [100, 15, 100, 16] * 100
    starts = draw_clips(lengths, 16, 250, seed=0)
    assert sum(map(len, starts)) == 250 and max(map(len, starts)) == 1
    assert all(not places for places in starts[1::4])
    assert {places[0] for places in starts[3::4] if places} == {0}
    places = [place for given in starts[::4] for place in given]
    assert 0 <= min(places) < 8 and 76 < max(places) <= 84 and abs(np.mean(places) - 42) < 8


def test_with_fewer_videos_the_clips_of_one_do_not_overlap():
    for seed in range(20):
        starts = draw_clips([100, 40, 33], 16, 8, seed)
        assert list(map(len, starts)) == [4, 2, 2]
        for places, length in zip(starts, (100, 40, 33), strict=True):
            assert all(later - place >= 16 for place, later in zip(places, places[1:], strict=False))
            assert places[0] >= 0 and places[-1] + 16 <= length


def test_what_there_is_is_drawn_and_the_seed_decides():
    assert sum(map(len, draw_clips([100, 40], 16, 2048, 0))) == 8
    assert draw_clips([500] * 9, 16, 9, 1) == draw_clips([500] * 9, 16, 9, 1) != draw_clips([500] * 9, 16, 9, 2)
