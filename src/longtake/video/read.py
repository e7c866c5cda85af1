"""Frames of video files, folders and pictures: any of them, exactly, a few at a time, whatever the length.

The time stamps of a video file are read once; then its frames are reached by seeking. Frames and pictures are turned as
players turn them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from itertools import chain, count, islice, takewhile
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image, ImageOps

from longtake.errors import InputError
from longtake.reading import check_file
from longtake.video.files import PICTURE_ENDINGS, frame_file, picture_files
from longtake.video.pictures import is_animated, read_picture

PLAUSIBLE_FPS = (1.0, 240.0)
"""Least and greatest frame rate that is believed."""

_FRAMES_AT_ONCE = 16
_STAMPED = ("mov", "matroska", "mpegts", "flv", "avi")
_CHECKED_FRAMES = 16
_KEYFRAMES_TRIED = 3
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


def read_last(path: Path, most: int, size: tuple[int, int]) -> np.ndarray:
    """Return the last frames of a video, a picture, or a folder of pictures in natural order, `most` of them at most.

    They are uint8 (frames, height, width, 3) of this `size` (height, width): what is larger by a whole number, as
    `--scale` makes it, is reduced to it; anything else is scaled until it covers it, and cut evenly at its edges.
    They are decoded once, however often a run asks for them while it begins. Raises InputError for what cannot be
    read, and for frames of several sizes.
    """
    return _fitted(path, most, size, _stamps(path)).copy()


@lru_cache(maxsize=1)
def _fitted(path: Path, most: int, size: tuple[int, int], stamps: tuple[tuple[str, int, int], ...]) -> np.ndarray:
    """Return what `read_last` does, of files that have these time stamps and lengths."""
    frames = _last_frames(path, most)
    if any(frame.shape != frames[0].shape for frame in frames):
        raise InputError(f"{path} has frames of several sizes; give some of one size")
    if times := _times(frames[0], size):
        return _reduced(np.stack(frames), times, path)
    fitted = [ImageOps.fit(Image.fromarray(frame), (size[1], size[0]), Image.Resampling.LANCZOS) for frame in frames]
    return np.stack([np.asarray(frame) for frame in fitted])


def how_fitted(path: Path, size: tuple[int, int]) -> str | None:
    """Return what `read_last` does with frames that do not have this size or a multiple of it; None where nothing."""
    frame = _one_frame(path)
    if _times(frame, size):
        return None
    height, width = frame.shape[:2]
    shares = sorted((size[0] / height, size[1] / width))
    lost = 1 - shares[0] / shares[1]
    cut = f", and {lost:.0%} of it is cut off, evenly at its edges" if lost >= 0.005 else ""
    return f"{path} has {width}x{height} pixels: it is scaled to the {size[1]}x{size[0]} of the video{cut}"


def _times(frame: np.ndarray, size: tuple[int, int]) -> int:
    """Return how many times larger than this a frame is, 0 where that is no whole number."""
    times = frame.shape[0] // size[0]
    return times if frame.shape[:2] == (size[0] * times, size[1] * times) else 0


def _stamps(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Return what tells files from what they were before."""
    found = [(file, file.stat()) for file in _pictures(path) or [path]]
    return tuple((str(file), stat.st_mtime_ns, stat.st_size) for file, stat in found)


def _pictures(path: Path) -> list[Path]:
    """Return a picture, or those of a folder, in natural order; none of a video, as an animated PNG is. Raises
    InputError for no such file, and for a folder without any."""
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if not path.is_dir():
        return [path] if path.suffix.lower() in PICTURE_ENDINGS and not is_animated(path) else []
    if files := picture_files(path):
        return files
    raise InputError(f"{path} holds no pictures ({' '.join(sorted(PICTURE_ENDINGS))}); give one that does")


def _one_frame(path: Path) -> np.ndarray:
    """Return a frame, all of which have one size."""
    if files := _pictures(path):
        return read_picture(files[-1])
    return next(read_frames(path, 0, 1))[0]


def _last_frames(path: Path, most: int) -> list[np.ndarray]:
    if files := _pictures(path):
        return [read_picture(file) for file in files[-most:]]
    return [frame for batch in read_frames(path, max(0, count_frames(path) - most)) for frame in batch]


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


class _UnnamedError(InputError):
    """What is wrong with a file, without its name."""


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which file cannot be read."""
    try:
        yield
    except av.FFmpegError as error:
        raise InputError(f"cannot read {path} as a video: {_in_words(error)}; leave it out") from None
    except _UnnamedError as reason:
        raise InputError(f"cannot read {path} as a video: {reason}") from None


def _in_words(error: av.FFmpegError) -> str:
    return "it ends before its first frame" if isinstance(error, av.EOFError) else str(error.strerror)


def _reduced(frames: np.ndarray, scale: int, path: Path) -> np.ndarray:
    if scale == 1:
        return frames
    num, height, width, channels = frames.shape
    if height % scale or width % scale:
        raise InputError(f"scale {scale} does not divide the size of {path}, {height}x{width}")
    squares = frames.reshape(num, height // scale, scale, width // scale, scale, channels)
    return np.rint(squares.mean(axis=(2, 4), dtype=np.float32)).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class SeekableVideo:
    """A video file whose frames are known by number, in the order in which they are shown."""

    path: Path
    """The file."""
    num_frames: int
    """How many frames it shows."""
    fps: float | None
    """Frames per second on average; None where the file says nothing that can be believed."""
    times: NDArray[np.float64] | None
    """Seconds at which each frame is shown, from 0 and rising; None where the file does not say."""
    stamps: NDArray[np.int64] | None
    """The time stamps by which frames are found again; None: the file is decoded from its start instead."""
    keyframes: NDArray[np.int64]
    """The time stamps at which decoding can begin, rising."""

    def read(self, start: int, stop: int, *, blend: bool = True) -> Iterator[NDArray[np.uint8]]:
        """Yield frames start to stop (half open), each uint8 (height, width, 3); sizes may change on the way.

        `blend` as in `rgb`. Raises InputError, which names the file, where a frame cannot be decoded.
        """
        assert 0 <= start <= stop <= self.num_frames, (start, stop)
        done = start
        try:
            for frame in islice(self._frames(start), stop - start):
                if self.stamps is not None and frame.pts != self.stamps[done]:
                    break
                yield rgb(frame, blend=blend)
                done += 1
        except av.FFmpegError as error:
            raise InputError(f"cannot decode frame {done} of {self.path}: {error.strerror}; leave it out") from None
        if done < stop:
            raise InputError(f"cannot decode frame {done} of {self.path}, which it promises; leave it out")

    def _frames(self, start: int) -> Iterator[VideoFrame]:
        if self.stamps is None:
            yield from islice(decoded(self.path), start, None)
            return
        wanted = self.stamps[start]
        earlier = self.keyframes[self.keyframes <= wanted][::-1]
        for key in earlier[:_KEYFRAMES_TRIED]:
            frames = decoded(self.path, int(key))
            first = next((frame for frame in frames if frame.pts >= key), None)
            # Some containers seek by another clock and land late: then an earlier keyframe leads here.
            if first is not None and first.pts == key:
                yield from (frame for frame in chain([first], frames) if frame.pts >= wanted)
                return
        yield from (frame for frame in decoded(self.path) if frame.pts is not None and frame.pts >= wanted)


def rgb(frame: VideoFrame, *, blend: bool = True) -> NDArray[np.uint8]:
    """Return a frame as uint8 (height, width, 3), turned as players turn it.

    `blend`: whether colours that are stored at half the size run into their neighbours.
    """
    how = _ROUNDED | (Interpolation.BILINEAR if blend else Interpolation.POINT)
    shown = frame if blend else _unsited(frame)
    pixels = np.asarray(shown.to_ndarray(format="rgb24", interpolation=how, threads=1), np.uint8)
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


def _unsited(frame: VideoFrame) -> VideoFrame:
    """Return a frame that does not say where in their squares colours were taken: of H.264 that is the left edge, to
    which FFmpeg's nearest colour of every second pixel is that of the square to the right."""
    if frame.format.name != "yuv420p":
        return frame
    plain = VideoFrame.from_ndarray(frame.to_ndarray(), format=frame.format.name)
    plain.colorspace, plain.color_range = frame.colorspace, frame.color_range
    return plain


def decoded(source: Path | BytesIO, stamp: int | None = None) -> Iterator[VideoFrame]:
    """Yield the frames from a keyframe on, or from the start. Raises InputError and av.FFmpegError."""
    with _opened(source) as container:
        stream = _video_stream(container)
        if stamp is not None:
            container.seek(stamp, stream=stream)
        yield from container.decode(stream)


def open_video(path: Path) -> SeekableVideo:
    """Read the time stamps of a video file and decode its first frames.

    A file without a usable time stamp for every frame (raw streams, MPEG program streams, AVI with B-frames, VP8) is
    decoded to its end instead, and from its start again for every read. Raises InputError for a file without video and
    for a damaged one: its text is the reason alone, for a list of skipped files.
    """
    try:
        with _opened(path) as container:
            scan = _scanned(container, _video_stream(container))
        if scan is None or not _begins_with(path, scan[0]):
            return _decoded_throughout(path)
    except av.FFmpegError as error:
        raise _UnnamedError(_in_words(error)) from None
    stamps, keyframes, base = scan
    times = (stamps - stamps[0]) * base
    seconds = float(times[-1])
    fps = (len(times) - 1) / seconds if seconds else None
    return SeekableVideo(
        path=path, num_frames=len(times), fps=_believed(fps), times=times, stamps=stamps, keyframes=keyframes
    )


def told_seconds(path: Path) -> float | None:
    """Return how long a file says that its video is, even where it is cut off; None where it does not say."""
    try:
        with _opened(path) as container:
            stream = _video_stream(container)
            if stream.duration and stream.time_base:
                return float(stream.duration * stream.time_base)
            # Matroska, as FFmpeg writes it.
            hours, minutes, seconds = stream.metadata["DURATION"].split(":")
            return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except (av.FFmpegError, InputError, LookupError, ValueError):
        return None


def _opened(source: Path | BytesIO) -> InputContainer:
    if isinstance(source, Path):
        try:
            check_file(source)
        except OSError as error:
            raise _UnnamedError(error.strerror) from None
        if _is_animated_webp(source):
            raise _UnnamedError(
                "it is an animated WebP, which FFmpeg does not decode; save its frames, as Pillow reads them, in a "
                "folder as 000000.png, 000001.png and so on, and give that"
            )
    # Old files carry names and comments in other encodings than UTF-8.
    return av.open(str(source) if isinstance(source, Path) else source, "r", metadata_errors="replace")


def _is_animated_webp(path: Path) -> bool:
    """Whether a file says so in the flags of its extended header (RFC 9649, section 2.7)."""
    if path.is_dir():
        return False
    with path.open("rb") as file:
        head = file.read(21)
    return len(head) == 21 and (head[:4], head[8:16]) == (b"RIFF", b"WEBPVP8X") and bool(head[20] & 2)


def _video_stream(container: InputContainer) -> VideoStream:
    streams = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    if not streams:
        raise _UnnamedError("there is no video in it")
    if streams[0].codec_context is None:
        raise _UnnamedError("there is no decoder for its video")
    streams[0].thread_type = "NONE"
    return streams[0]


def _scanned(
    container: InputContainer, stream: VideoStream
) -> tuple[NDArray[np.int64], NDArray[np.int64], float] | None:
    """Return all time stamps, those of the keyframes, and their unit in seconds; None where they do not tell frames."""
    shown: list[int | None] = []
    keys: list[int | None] = []
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise _UnnamedError(f"it is damaged or cut off at frame {len(shown)}")
        if packet.size and not packet.is_discard:
            shown.append(packet.pts)
            keys += [packet.pts] if packet.is_keyframe else []
    stamps = [stamp for stamp in shown if stamp is not None]
    codec = stream.codec_context
    reordered = container.format.name == "avi" and codec.has_b_frames
    told = container.format.name.startswith(_STAMPED) and not reordered and codec.name != "vp8"
    if not told or not stamps or not len(shown) == len(stamps) == len(set(stamps)) or stream.time_base is None:
        return None
    keyframes = sorted(key for key in keys if key is not None)
    return np.array(sorted(stamps), np.int64), np.array(keyframes, np.int64), float(stream.time_base)


def _begins_with(path: Path, stamps: NDArray[np.int64]) -> bool:
    """Whether the first frames come out with the first of these time stamps."""
    first = [frame.pts for frame in islice(decoded(path), _CHECKED_FRAMES)]
    return first == stamps[:_CHECKED_FRAMES].tolist()


def _decoded_throughout(path: Path) -> SeekableVideo:
    num_frames = sum(1 for _ in decoded(path))
    if not num_frames:
        raise _UnnamedError("no frame of it can be decoded")
    with _opened(path) as container:
        rate = _video_stream(container).average_rate
    fps = None if rate is None else _believed(float(rate))
    nothing = np.empty(0, np.int64)
    return SeekableVideo(path=path, num_frames=num_frames, fps=fps, times=None, stamps=None, keyframes=nothing)


def _believed(fps: float | None) -> float | None:
    return fps if fps is not None and PLAUSIBLE_FPS[0] <= fps <= PLAUSIBLE_FPS[1] else None
