from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from longtake.errors import InputError
from longtake.metrics.clips import ClipDraw, DrawnSet, draw, draw_alike, read_clips

PLAN = ClipDraw(num_frames=4, num_clips=6, size=None, seed=0)


def write_video(folder: Path, num_frames: int, shape: tuple[int, int] = (8, 8)) -> Path:
    """Write a video of flat frames; the grey of a frame is its number."""
    folder.mkdir(parents=True)
    for frame in range(num_frames):
        Image.fromarray(np.full((*shape, 3), frame, np.uint8)).save(folder / f"{frame:06d}.png")
    return folder


def test_clips_are_the_frames_that_were_drawn(tmp_path: Path):
    videos = [write_video(tmp_path / "a", 30), write_video(tmp_path / "b", 3), write_video(tmp_path / "c", 9)]
    drawn = draw(videos, PLAN)
    assert drawn.num_skipped == 1 and drawn.num_clips == 6
    expected = [(v, s) for v, starts in zip(videos, drawn.starts, strict=True) for s in starts]
    found = list(read_clips(drawn, PLAN))
    assert [(video, int(clip[0, 0, 0, 0])) for video, clip in found] == expected
    for _, clip in found:
        assert clip.shape == (4, 8, 8, 3) and list(np.diff(clip[:, 0, 0, 0])) == [1, 1, 1]


def test_too_short_is_an_error(tmp_path: Path):
    video = write_video(tmp_path / "a", 3)
    with pytest.raises(InputError, match="no video beside .* has 4 frames .the longest has 3"):
        draw([video], PLAN)
    promised = DrawnSet(videos=[video], starts=[[0]], num_skipped=0)
    with pytest.raises(InputError, match="ends before frame 4"):
        list(read_clips(promised, PLAN))


def test_copies_are_drawn_alike(tmp_path: Path):
    videos, copies = [write_video(tmp_path / "a", 30)], [write_video(tmp_path / "b", 30)]
    drawn = draw(videos, PLAN)
    assert draw_alike(drawn, copies).starts == drawn.starts
    with pytest.raises(InputError, match="has 30 frames and .* has 9"):
        draw_alike(drawn, [write_video(tmp_path / "c", 9)])


def test_what_cannot_be_read_is_left_out_with_its_reason(tmp_path: Path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("text")
    videos = [tmp_path / "empty.mp4", write_video(tmp_path / "a", 30), tmp_path / "text.mp4"]
    drawn = draw(videos, PLAN)
    assert drawn.num_skipped == 0 and [len(starts) for starts in drawn.starts] == [0, 6, 0]
    assert [reason.split(" as a video")[0] for reason in drawn.unread] == [f"cannot read {videos[i]}" for i in (0, 2)]
    assert len(list(read_clips(drawn, PLAN))) == 6
    with pytest.raises(InputError, match="none of the 2 videos can be read: cannot read .*empty.mp4"):
        draw(videos[::2], PLAN)
