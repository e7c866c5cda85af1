"""Footage from folders (any videos, UCF-101 with its official splits, SkyTimelapse's frames) and of sprite worlds.

Video files are opened by a function that is passed in (`longtake.video.read.open_video`).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from longtake.data.footage import Footage, Frames, Recording, gathered
from longtake.data.sprites import FPS, random_world
from longtake.errors import InputError, unknown_name
from longtake.reading import check_file, parse_json
from longtake.video.files import (
    MANIFEST_ENDING,
    PICTURE_ENDINGS,
    VIDEO_ENDINGS,
    find_videos,
    frame_file,
    picture_files,
    subfolders,
)
from longtake.video.pictures import picture_size, read_picture

SPLITS = ("train", "test")

_SLOWER = 0.99


class VideoSource(Protocol):
    """An opened video file."""

    @property
    def num_frames(self) -> int:
        """How many frames can be read."""
        ...

    @property
    def fps(self) -> float | None:
        """Frames per second on average; None where it is not known."""
        ...

    @property
    def times(self) -> NDArray[np.float64] | None:
        """Seconds at which each frame is shown, rising; None where they are not known."""
        ...

    def read(self, start: int, stop: int) -> Iterator[Frames]:
        """Yield the frames start to stop, each (height, width, 3)."""
        ...


OpenVideo = Callable[[Path], VideoSource]
"""Opens a video file; raises InputError with the reason where it cannot be used."""


def video_folder(
    root: Path, *, size: int | None, min_frames: int, open_video: OpenVideo, fps: float | None = None
) -> Footage:
    """Return every video in a folder and the folders in it, in natural order; hidden ones are left alone.

    A video is a file, or a folder of frames from 000000.png on, as runs write them; `root` may be one itself, or the
    manifest of a batch, in whose order they then are. `fps`
    thins out faster videos (`at_rate`), and skips frames, whose rate nobody knows. Raises InputError where nothing can
    be used.
    """
    if not root.exists():
        raise InputError(f"there is no folder {root}; give one that holds videos")
    if root.suffix == MANIFEST_ENDING:
        paths = _listed(root)
    else:
        paths = [root] if not root.is_dir() or _is_frames(root) else find_videos(root, _is_frames)
    named = [(str(path.relative_to(root)) if root in path.parents else path.name, path, None) for path in paths]
    looked_for = f"videos ({' '.join(sorted(VIDEO_ENDINGS))}) and folders of frames (000000.png ...) in {root}"
    return gathered(_opened(named, open_video, fps), size=size, min_frames=min_frames, looked_for=looked_for)


def ucf101(
    root: Path, split: str, *, size: int | None, min_frames: int, open_video: OpenVideo, fps: float | None = None
) -> Footage:
    """Return the first official training or test list of a class-per-folder set such as UCF-101, sorted by path.

    The lists are ucfTrainTestlist/trainlist01.txt and testlist01.txt in the folder or beside it. A recording's label is
    the name of its class. `fps` thins out faster videos (`at_rate`). Raises InputError where the list or everything on
    it is missing.
    """
    _check_folder(root)
    _check_split(split)
    name = Path("ucfTrainTestlist") / f"{split}list01.txt"
    lists = [folder / name for folder in (root, root.absolute().parent) if (folder / name).is_file()]
    if not lists:
        raise InputError(f"there is no {name} in {root} or beside it; UCF-101 offers these lists for download")
    try:
        told = lists[0].read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{lists[0]} is no list of videos: it is no UTF-8; UCF-101 offers it for download") from None
    lines = sorted(line.split()[0] for line in told.splitlines() if line.strip())
    named = [(line, root / line, line.split("/")[0]) for line in lines]
    looked_for = f"the {len(named)} videos of {lists[0]} in {root}"
    return gathered(_opened(named, open_video, fps), size=size, min_frames=min_frames, looked_for=looked_for)


def sky_timelapse(root: Path, split: str, *, size: int | None, min_frames: int) -> Footage:
    """Return SkyTimelapse's clips, in natural order: root/split/video/clip/frame.png, where split is train or test, or
    root/split/video/frame.png, as PVDM's authors lay them.

    Frames are in natural order, too. Raises InputError where there are none.
    """
    _check_folder(root)
    _check_split(split)
    videos = subfolders(root / split) if (root / split).is_dir() else []
    folders = [clip for video in videos for clip in ([video] if picture_files(video) else subfolders(video))]
    looked_for = f"folders of frames ({' '.join(sorted(PICTURE_ENDINGS))}) in {root / split}/VIDEO/[CLIP/]"
    found = (frame_folder(folder, str(folder.relative_to(root / split))) for folder in folders)
    return gathered(found, size=size, min_frames=min_frames, looked_for=looked_for)


def sprite_worlds(
    num_worlds: int, num_frames: int, *, size: int | None = 64, min_frames: int = 1, first_seed: int = 0
) -> Footage:
    """Return `num_worlds` sprite worlds of one shot each, of which the first `num_frames` count as the recording.

    Seeds count up from `first_seed`; the held-out combinations of object, scene and motion do not occur. The label is
    the caption. Frames are drawn whenever they are read; `in_memory` draws them once. Raises InputError where
    `num_frames` is less than `min_frames`, and for no worlds.
    """
    recordings = (_world(seed, num_frames) for seed in range(first_seed, first_seed + num_worlds))
    looked_for = f"{num_worlds} sprite worlds of {num_frames} frames"
    return gathered(recordings, size=size, min_frames=min_frames, looked_for=looked_for)


def _world(seed: int, num_frames: int) -> Recording:
    world = random_world(seed)
    return Recording(
        name=f"world-{seed}",
        num_frames=num_frames,
        fps=float(FPS),
        read=world.frames,
        label=world.caption(0),
        shot=world.shot(0),
    )


def at_rate(source: VideoSource, fps: float) -> NDArray[np.int64]:
    """Return the frames to take for a steady rate: for every 1/fps seconds the one that is shown nearest to it.

    So 24 frames a second become 12 by taking every second one, and unsteady ones are evened out. Raises InputError, the
    reason alone, for an unknown rate and for a slower video: repeated frames would teach a model to stand still.
    """
    if source.fps is None:
        raise InputError("its frame rate is not known")
    if source.fps < fps * _SLOWER:
        raise InputError(f"{source.fps:.3g} frames a second, fewer than {fps:g}")
    times = source.times if source.times is not None else np.arange(source.num_frames) / source.fps
    wanted = np.arange(int((times[-1] + 0.5 / source.fps) * fps) + 1) / fps
    after = np.searchsorted(times, wanted).clip(1, len(times) - 1) if len(times) > 1 else np.zeros(1, np.int64)
    before = (after - 1).clip(0)
    return np.where(wanted - times[before] <= times[after] - wanted, before, after)


def _opened(
    named: Iterable[tuple[str, Path, str | None]], open_video: OpenVideo, fps: float | None
) -> Iterator[Recording | tuple[str, str]]:
    def opened(one: tuple[str, Path, str | None]) -> Recording | tuple[str, str]:
        name, path, label = one
        if path.is_dir():
            return (name, "its frame rate is not known") if fps else frame_folder(path, name)
        try:
            return _recording(name, label, open_video(path), fps)
        except InputError as reason:
            return name, str(reason)

    # Time stamps are read and frames decoded outside Python, so that threads share the work.
    with ThreadPoolExecutor() as threads:
        yield from threads.map(opened, named)


def _recording(name: str, label: str | None, source: VideoSource, fps: float | None) -> Recording:
    if fps is None:
        return Recording(name=name, num_frames=source.num_frames, fps=source.fps, read=source.read, label=label)
    chosen = at_rate(source, fps)
    return Recording(
        name=name, num_frames=len(chosen), fps=fps, read=partial(_read_chosen, source, chosen), label=label
    )


def _read_chosen(source: VideoSource, chosen: NDArray[np.int64], start: int, stop: int) -> Iterator[Frames]:
    numbers = chosen[start:stop]
    first = int(numbers[0])
    repeats = np.bincount(numbers - first)
    for times, frame in zip(repeats, source.read(first, int(numbers[-1]) + 1), strict=True):
        yield from [frame] * int(times)


def frame_folder(folder: Path, name: str) -> Recording | tuple[str, str]:
    """Return the pictures of a folder, which have a number each, as a recording, or name and reason."""
    files = picture_files(folder)
    numbers = {int(digits[-1]) for file in files if (digits := re.findall(r"\d+", file.stem))}
    if not files:
        return name, "there are no frames in it"
    if len(numbers) < len(files):
        return name, "frames without a number in their name, or two with the same"
    empty = [file.name for file in files if not file.stat().st_size]
    if empty:
        return name, f"{min(empty)} is empty"
    try:
        picture_size(files[0])
    except InputError:
        return name, f"{files[0].name} is no picture"
    return Recording(name=name, num_frames=len(files), fps=None, read=partial(_read_pictures, files))


def _read_pictures(files: list[Path], start: int, stop: int) -> Iterator[Frames]:
    return map(read_picture, files[start:stop])


def _listed(manifest: Path) -> list[Path]:
    try:
        check_file(manifest)
        # At line ends alone: a prompt may hold what str.splitlines takes for one, such as U+2028.
        lines = manifest.read_text(encoding="utf-8-sig").split("\n")
        return [manifest.with_name(parse_json(line)["file"]) for line in lines if line.strip()]
    except OSError as error:
        raise InputError(f"cannot read {manifest}: {error.strerror}; give the manifest of a batch") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{manifest} is no manifest of 'longtake batch': a line names no file") from None


def _is_frames(folder: Path) -> bool:
    return frame_file(folder, 0).exists()


def _check_folder(root: Path) -> None:
    if not root.is_dir():
        raise InputError(f"there is no folder {root}; give one that holds videos")


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
