from pathlib import Path

import numpy as np
import pytest

from longtake.errors import InputError
from longtake.metrics.video_sets import draw_clips, find_videos, pair_videos


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_videos_are_found_in_any_depth(tmp_path: Path):
    touch(tmp_path, "b.mp4", "notes.txt", "jumping/a.AVI", "frames/000000.png", "frames/000001.png", "other/7.png")
    found = [str(video.relative_to(tmp_path)) for video in find_videos(tmp_path)]
    assert found == ["b.mp4", "frames", "jumping/a.AVI"]
    assert find_videos(tmp_path / "b.mp4") == [tmp_path / "b.mp4"]
    assert find_videos(tmp_path / "frames") == [tmp_path / "frames"]


def test_links_are_followed_once_hidden_things_left_alone_and_numbers_counted(tmp_path: Path):
    touch(tmp_path / "other", "x.mp4")
    touch(tmp_path / "set", "10.mp4", "2.mp4", "1.mp4", ".cache/no.mp4", "._1.mp4", "__MACOSX/1.mp4")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "circle").symlink_to(tmp_path / "set")
    found = [str(video.relative_to(tmp_path / "set")) for video in find_videos(tmp_path / "set")]
    assert found == ["1.mp4", "2.mp4", "10.mp4", "linked/x.mp4"]


def test_no_videos_is_an_error(tmp_path: Path):
    touch(tmp_path, "notes.txt")
    with pytest.raises(InputError, match="holds no videos"):
        find_videos(tmp_path)
    with pytest.raises(InputError, match="there is no"):
        find_videos(tmp_path / "nothing")


def test_pairs_go_by_name_whatever_the_ending(tmp_path: Path):
    real, fake = tmp_path / "real", tmp_path / "fake"
    touch(real, "a/1.avi", "2.mp4")
    touch(fake, "2.mkv", "a/1/000000.png")
    assert pair_videos(real, find_videos(real), fake, find_videos(fake)) == [
        (real / "2.mp4", fake / "2.mkv"),
        (real / "a/1.avi", fake / "a/1"),
    ]
    touch(fake, "3.mp4")
    with pytest.raises(InputError, match=r"real holds no video named '3'"):
        pair_videos(real, find_videos(real), fake, find_videos(fake))
    touch(fake, "3.avi")
    with pytest.raises(InputError, match="share a name"):
        pair_videos(real, find_videos(real), fake, find_videos(fake))


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
