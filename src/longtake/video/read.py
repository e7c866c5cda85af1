"""Frames of a video file or folder, a few at a time, whatever its length."""

from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Interpolation
from PIL import Image

from longtake.errors import InputError
from longtake.video.paths import frame_file

_FRAMES_AT_ONCE = 16
_ROUNDED = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


def read_frames(path: str | Path, start: int = 0, stop: int | None = None, scale: int = 1) -> Iterator[np.ndarray]:
    """Yield the frames start to stop of a video file or a folder of numbered PNG files, uint8 (n, height, width, 3).

    At most 16 frames are in memory; `stop` None means the end. `scale` undoes an enlargement: each square of scale x
    scale pixels becomes its mean. Raises InputError for what cannot be read, for frames of different sizes, and for
    sizes that `scale` does not divide.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist")
    frames = _folder_frames(path, start) if path.is_dir() else _file_frames(path, start, _conversion(scale))
    rest = islice(frames, None if stop is None else max(0, stop - start))
    shape = None
    while batch := list(islice(rest, _FRAMES_AT_ONCE)):
        shape = shape or batch[0].shape
        if any(frame.shape != shape for frame in batch):
            raise InputError(f"{path} changes its size on the way; cut it where it does")
        yield _reduced(np.stack(batch), scale, path)


def count_frames(path: str | Path) -> int:
    """Return how many frames a video file or a folder of numbered PNG files holds, without decoding any.

    Raises InputError for what cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return next(frame for frame in count() if not frame_file(path, frame).exists())
    try:
        with av.open(str(path)) as container:
            return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))
    except (av.FFmpegError, IndexError) as error:
        raise InputError(f"cannot read {path} as a video: {error}") from None


def _folder_frames(path: Path, start: int) -> Iterator[np.ndarray]:
    if not frame_file(path, 0).exists():
        raise InputError(f"{path} holds no frames: there is no {frame_file(path, 0).name}")
    for frame in count(start):
        file = frame_file(path, frame)
        if not file.exists():
            return
        with Image.open(file) as image:
            yield np.asarray(image.convert("RGB"))


def _conversion(scale: int) -> Interpolation:
    # An even enlargement has one colour for every two by two pixels: blending it with its neighbours would smear it.
    return _ROUNDED | (Interpolation.BILINEAR if scale % 2 else Interpolation.POINT)


def _file_frames(path: Path, start: int, conversion: Interpolation) -> Iterator[np.ndarray]:
    try:
        with av.open(str(path)) as container:
            yield from _decoded(container, start, conversion)
    except (av.FFmpegError, IndexError) as error:
        raise InputError(f"cannot read {path} as a video: {error}") from None


def _decoded(container: InputContainer, start: int, conversion: Interpolation) -> Iterator[np.ndarray]:
    stream = container.streams.video[0]
    stream.thread_type = "NONE"
    rate, base, first = stream.average_rate, stream.time_base, stream.start_time or 0
    index = None
    if start and rate and base:
        container.seek(first + round(start / rate / base), stream=stream)
    else:
        index = 0
    for frame in container.decode(stream):
        if index is None:
            # After a seek the time stamp tells which frame this is.
            assert rate and base and frame.pts is not None
            index = round((frame.pts - first) * base * rate)
        if index >= start:
            yield frame.to_ndarray(format="rgb24", interpolation=conversion, threads=1)
        index += 1


def _reduced(frames: np.ndarray, scale: int, path: Path) -> np.ndarray:
    if scale == 1:
        return frames
    num, height, width, channels = frames.shape
    if height % scale or width % scale:
        raise InputError(f"scale {scale} does not divide the size of {path}, {height}x{width}")
    squares = frames.reshape(num, height // scale, scale, width // scale, scale, channels)
    return np.rint(squares.mean(axis=(2, 4), dtype=np.float32)).astype(np.uint8)
