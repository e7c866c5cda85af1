from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from longtake.data.footage import Footage
from longtake.data.footage_files import at_rate, sky_timelapse, ucf101, video_folder
from longtake.errors import InputError
from longtake.video.read import open_video

ASSETS = Path(__file__).parent / "assets"
EXCERPT = ASSETS / "big_buck_bunny.mp4"


@dataclass(frozen=True)
class FakeVideo:
    """A video whose frame number is its grey level."""

    num_frames: int = 24
    fps: float | None = 24.0
    times: np.ndarray | None = None

    def read(self, start: int, stop: int) -> Iterator[np.ndarray]:
        return (np.full((8, 8, 3), frame, np.uint8) for frame in range(start, stop))


def steady(num_frames: int, fps: float) -> FakeVideo:
    return FakeVideo(num_frames, fps, np.arange(num_frames) / fps)


@pytest.mark.parametrize("line", ["[" * 100_000, "{}", "3", "no JSON"])
def test_a_list_that_no_batch_wrote_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match="is no manifest of 'longtake batch': a line names no file"):
        video_folder(tmp_path / "a.jsonl", size=8, min_frames=1, open_video=open_video)


def test_a_list_is_read_as_editors_and_other_tools_write_it_again(tmp_path: Path) -> None:
    """With a byte order mark, a prompt with U+2028 in it as it is, and an empty line."""
    touched(tmp_path, "a.mkv")
    (tmp_path / "a.jsonl").write_text('\ufeff{"file": "a.mkv", "prompt": "a\u2028cat"}\n\n', encoding="utf-8")
    footage = video_folder(tmp_path / "a.jsonl", size=8, min_frames=1, open_video=opened_if_there)
    assert [one.name for one in footage.recordings] == ["a.mkv"]


def touched(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def greys(footage: Footage, recording: int = 0) -> list[int]:
    clip = footage.clip(recording, 0, footage.recordings[recording].num_frames)
    return clip[:, 0, 0, 0].tolist()


def test_videos_are_found_in_all_folders_and_sorted(tmp_path: Path):
    touched(tmp_path, "b.mp4", "a/z.MKV", "a/b/c.webm", "a/notes.txt", ".hidden.mp4", "c.png")
    footage = video_folder(tmp_path, size=8, min_frames=16, open_video=lambda path: FakeVideo())
    assert [recording.name for recording in footage.recordings] == ["a/b/c.webm", "a/z.MKV", "b.mp4"]


def test_what_cannot_be_used_is_skipped_with_its_reason(tmp_path: Path):
    touched(tmp_path, "empty.mp4")
    (tmp_path / "short.mp4").write_bytes(EXCERPT.read_bytes())
    (tmp_path / "text.avi").write_text("no video at all")
    (tmp_path / "whole.mp4").write_bytes(EXCERPT.read_bytes())
    (tmp_path / "cut.mp4").write_bytes(EXCERPT.read_bytes()[: EXCERPT.stat().st_size // 2])
    num_frames = open_video(EXCERPT).num_frames

    def opened(path: Path):
        return FakeVideo(8) if path.name == "short.mp4" else open_video(path)

    footage = video_folder(tmp_path, size=16, min_frames=16, open_video=opened)
    assert [(one.name, one.num_frames) for one in footage.recordings] == [("whole.mp4", num_frames)]
    assert [name for name, _ in footage.skipped] == ["cut.mp4", "empty.mp4", "short.mp4", "text.avi"]
    assert dict(footage.skipped)["short.mp4"] == "8 of the 16 frames needed"
    assert "4 skipped: cut.mp4 (" in footage.summary()
    assert footage.clip(0, num_frames - 3, num_frames).shape == (3, 16, 16, 3)


@pytest.mark.parametrize("names", [(), ("a.txt",)])
def test_a_folder_without_videos_says_what_was_looked_for(tmp_path: Path, names: tuple[str, ...]):
    with pytest.raises(InputError, match=r"looked for videos \(.*\.mp4.*\) and folders .* in .*; there is none"):
        video_folder(touched(tmp_path, *names), size=8, min_frames=1, open_video=open_video)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path):
    readers: list[Callable[[Path], Footage]] = [
        lambda root: video_folder(root, size=8, min_frames=1, open_video=open_video),
        lambda root: ucf101(root, "train", size=8, min_frames=1, open_video=open_video),
        lambda root: sky_timelapse(root, "train", size=8, min_frames=1),
    ]
    for reader in readers:
        with pytest.raises(InputError, match="there is no folder"):
            reader(tmp_path / "nowhere")


def test_a_chosen_rate_takes_every_second_frame(tmp_path: Path):
    touched(tmp_path, "a.mp4", "slow.mp4", "unknown.mp4")
    videos = {"a.mp4": steady(24, 24.0), "slow.mp4": steady(24, 8.0), "unknown.mp4": FakeVideo(24, None)}
    footage = video_folder(tmp_path, size=8, min_frames=1, open_video=lambda path: videos[path.name], fps=12.0)
    assert footage.recordings[0].fps == 12.0 and footage.recordings[0].num_frames == 12
    assert greys(footage) == list(range(0, 24, 2))
    assert footage.clip(0, 5, 7)[:, 0, 0, 0].tolist() == [10, 12]
    assert footage.skipped == (
        ("slow.mp4", "8 frames a second, fewer than 12"),
        ("unknown.mp4", "its frame rate is not known"),
    )


def test_an_unsteady_rate_is_evened_out(tmp_path: Path):
    times = np.array([0.0, 0.1, 0.2, 0.3, 0.35, 0.4, 1.0, 1.1])
    video = FakeVideo(8, 7 / 1.1, times)
    assert at_rate(video, 5.0).tolist() == [0, 2, 5, 5, 6, 6]
    footage = video_folder(touched(tmp_path, "a.mp4"), size=8, min_frames=1, open_video=lambda path: video, fps=5.0)
    assert greys(footage) == [0, 2, 5, 5, 6, 6]


def test_the_same_rate_leaves_all_frames():
    assert at_rate(steady(50, 24000 / 1001), 24000 / 1001).tolist() == list(range(50))
    assert at_rate(FakeVideo(50, 25.0), 25.0).tolist() == list(range(50))
    assert at_rate(steady(1, 25.0), 12.0).tolist() == [0]


def ucf_tree(root: Path) -> Path:
    clips = ("Archery/v_Archery_g01_c01.avi", "Archery/v_Archery_g08_c01.avi", "Diving/v_Diving_g08_c02.avi")
    touched(root, *clips)
    lists = root / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "trainlist01.txt").write_text(
        "\ufeffDiving/v_Diving_g08_c02.avi 2\r\nArchery/v_Archery_g08_c01.avi 1\r\nDiving/v_Diving_g09_c01.avi 2\r\n"
    )
    (lists / "testlist01.txt").write_text("Archery/v_Archery_g01_c01.avi\n")
    return root


def opened_if_there(path: Path) -> FakeVideo:
    if not path.exists():
        raise InputError("No such file or directory")
    return FakeVideo()


@pytest.mark.parametrize("beside", [False, True])
def test_ucf101_follows_its_lists(tmp_path: Path, beside: bool):
    root = ucf_tree(tmp_path / "UCF-101")
    if beside:
        (root / "ucfTrainTestlist").rename(tmp_path / "ucfTrainTestlist")
    training = ucf101(root, "train", size=8, min_frames=16, open_video=opened_if_there)
    assert [(one.name, one.label) for one in training.recordings] == [
        ("Archery/v_Archery_g08_c01.avi", "Archery"),
        ("Diving/v_Diving_g08_c02.avi", "Diving"),
    ]
    assert training.skipped == (("Diving/v_Diving_g09_c01.avi", "No such file or directory"),)
    test = ucf101(root, "test", size=8, min_frames=16, open_video=opened_if_there)
    assert [one.name for one in test.recordings] == ["Archery/v_Archery_g01_c01.avi"]


def test_ucf101_without_its_lists_is_an_error(tmp_path: Path):
    with pytest.raises(InputError, match=r"no ucfTrainTestlist/trainlist01\.txt in"):
        ucf101(tmp_path, "train", size=8, min_frames=16, open_video=open_video)


def sky_clip(root: Path, name: str, numbers: list[int], pattern: str = "{name}_frames_{number}.png") -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    for number in numbers:
        Image.new("RGB", (12, 10), (number,) * 3).save(folder / pattern.format(name="v7", number=number))
    return folder


def test_sky_timelapse_orders_frames_by_number(tmp_path: Path):
    sky_clip(tmp_path / "train", "b/b_1", [*range(8, 13), 100])
    sky_clip(tmp_path / "train", "a/a_2", list(range(3, 23)), pattern="{number:08d}.jpg")
    sky_clip(tmp_path / "test", "c/c_1", list(range(4)))
    footage = sky_timelapse(tmp_path, "train", size=8, min_frames=4)
    assert [(one.name, one.num_frames) for one in footage.recordings] == [("a/a_2", 20), ("b/b_1", 6)]
    assert greys(footage, 1) == [8, 9, 10, 11, 12, 100]
    assert len(sky_timelapse(tmp_path, "test", size=8, min_frames=4).recordings) == 1


def test_what_a_desktop_leaves_in_a_folder_of_frames_drops_no_clip(tmp_path: Path):
    folder = sky_clip(tmp_path / "train", "a/b", list(range(8, 12)))
    for name in (".DS_Store", "._v7_frames_8.png", "Thumbs.db", "desktop.ini"):
        (folder / name).write_bytes(b"of the desktop")
    touched(tmp_path / "train", ".cache/clip/1.png", "a/.thumbnails/1.png")
    footage = sky_timelapse(tmp_path, "train", size=8, min_frames=4)
    assert [one.name for one in footage.recordings] == ["a/b"] and footage.skipped == ()
    assert greys(footage) == [8, 9, 10, 11]


def test_sky_timelapse_skips_what_cannot_be_used(tmp_path: Path):
    root = tmp_path / "train"
    sky_clip(root, "a/good", list(range(8)))
    sky_clip(root, "a/nothing", [])
    sky_clip(root, "a/short", [0, 1])
    (sky_clip(root, "a/twice", list(range(8))) / "other_003.png").touch()
    (sky_clip(root, "a/hollow", list(range(8))) / "v7_frames_8.png").touch()
    (sky_clip(root, "a/text", list(range(1, 8))) / "v7_frames_0.png").write_text("text")
    footage = sky_timelapse(tmp_path, "train", size=8, min_frames=4)
    assert [one.name for one in footage.recordings] == ["a/good"]
    assert footage.skipped == (
        ("a/hollow", "v7_frames_8.png is empty"),
        ("a/nothing", "there are no frames in it"),
        ("a/short", "2 of the 4 frames needed"),
        ("a/text", "v7_frames_0.png is no picture"),
        ("a/twice", "frames without a number in their name, or two with the same"),
    )


def test_a_damaged_frame_names_its_file(tmp_path: Path):
    picture = sky_clip(tmp_path / "train", "a/b", list(range(8))) / "v7_frames_5.png"
    picture.write_bytes(picture.read_bytes()[:40])
    footage = sky_timelapse(tmp_path, "train", size=8, min_frames=4)
    assert len(footage.clip(0, 0, 5)) == 5
    with pytest.raises(InputError, match=r"cannot read .*v7_frames_5\.png"):
        footage.clip(0, 0, 8)


@pytest.mark.parametrize("read", [sky_timelapse, ucf101])
def test_another_split_is_refused(tmp_path: Path, read):
    with pytest.raises(InputError, match="no split 'val'"):
        more = {} if read is sky_timelapse else {"open_video": open_video}
        read(tmp_path, "val", size=8, min_frames=4, **more)


def test_the_excerpt_is_read_at_any_size_and_rate():
    footage = video_folder(ASSETS, size=64, min_frames=32, open_video=open_video)
    assert len(footage.recordings) == 1 and footage.recordings[0].fps == pytest.approx(12)
    assert footage.clip(0, 20, 36).shape == (16, 64, 64, 3)
    half = video_folder(ASSETS, size=64, min_frames=32, open_video=open_video, fps=6.0)
    np.testing.assert_array_equal(half.clip(0, 10, 12), footage.clip(0, 20, 23)[::2])
