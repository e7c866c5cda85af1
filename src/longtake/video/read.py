"""Frames of a video file or folder, a few at a time, whatever its length."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice, takewhile
from pathlib import Path

import av
import numpy as np

from longtake.errors import InputError
from longtake.video.paths import frame_file
from longtake.video.pictures import read_picture
from longtake.video.seekable import decoded, open_video, rgb

_FRAMES_AT_ONCE = 16


def read_frames(path: str | Path, start: int = 0, stop: int | None = None, scale: int = 1) -> Iterator[np.ndarray]:
    """Yield the frames start to stop of a video file or a folder of numbered PNG files, uint8 (n, height, width, 3).

    At most 16 frames are in memory; `stop` None means the end. `scale` undoes an enlargement: each square of scale x
    scale pixels becomes its mean. Raises InputError for what cannot be read, for frames of different sizes, and for
    sizes that `scale` does not divide.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist")
    # An even enlargement has one colour for every two by two pixels: to blend it with its neighbours would smear it.
    frames = _folder_frames(path, start) if path.is_dir() else _file_frames(path, start, scale % 2 == 1)
    rest = islice(frames, None if stop is None else max(0, stop - start))
    shape = None
    while batch := list(islice(rest, _FRAMES_AT_ONCE)):
        shape = shape or batch[0].shape
        if any(frame.shape != shape for frame in batch):
            raise InputError(f"{path} changes its size on the way; cut it where it does")
        yield _reduced(np.stack(batch), scale, path)


def count_frames(path: str | Path) -> int:
    """Return how many frames a video file or a folder of numbered PNG files shows.

    Few are decoded where time stamps tell the number. Raises InputError for what cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return next(frame for frame in count() if not frame_file(path, frame).exists())
    with _named(path):
        return open_video(path).num_frames


def _folder_frames(path: Path, start: int) -> Iterator[np.ndarray]:
    if not frame_file(path, 0).exists():
        raise InputError(f"{path} holds no frames: there is no {frame_file(path, 0).name}")
    files = (frame_file(path, frame) for frame in count(start))
    return map(read_picture, takewhile(Path.exists, files))


def _file_frames(path: Path, start: int, blend: bool) -> Iterator[np.ndarray]:
    with _named(path):
        if start:
            film = open_video(path)
            yield from film.read(min(start, film.num_frames), film.num_frames, blend=blend)
        else:
            yield from (rgb(frame, blend=blend) for frame in decoded(path))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which file cannot be read."""
    try:
        yield
    except av.FFmpegError as error:
        raise InputError(f"cannot read {path} as a video: {error.strerror}; leave it out") from None
    except InputError as reason:
        told = str(reason)
        raise InputError(told if str(path) in told else f"cannot read {path} as a video: {told}") from None


def _reduced(frames: np.ndarray, scale: int, path: Path) -> np.ndarray:
    if scale == 1:
        return frames
    num, height, width, channels = frames.shape
    if height % scale or width % scale:
        raise InputError(f"scale {scale} does not divide the size of {path}, {height}x{width}")
    squares = frames.reshape(num, height // scale, scale, width // scale, scale, channels)
    return np.rint(squares.mean(axis=(2, 4), dtype=np.float32)).astype(np.uint8)
