"""The sound of a video: a file that somebody gives, as AAC beside its frames. It decides no frame."""

import hashlib
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import chain, groupby, islice, repeat
from pathlib import Path

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext

from longtake.errors import InputError
from longtake.reading import check_file

RATE = 48_000
"""Samples a second."""
BITS = 192_000
"""A second, of both channels together."""
SAMPLES = 1024
"""Of each channel in a packet of AAC."""


class Sound:
    """The packets of a sound file, and then those of silence without end.

    They are coded in one go from the start, so that none depends on how the video is cut; a run that goes on codes
    those before anew.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._coming: Iterator[av.Packet] = iter(())
        self._next: int | None = None

    def between(self, start: Fraction, stop: Fraction) -> list[av.Packet]:
        """Return the packets that begin from one second up to another; raises InputError for what cannot be decoded."""
        first, end = (-(-time * RATE // SAMPLES) for time in (start, stop))
        if self._next is None or self._next > first:
            self._coming, self._next = _coded(self._path), 0
        skipped, self._next = first - self._next, end
        try:
            return list(islice(self._coming, skipped, skipped + end - first))
        except av.FFmpegError as error:
            raise _unreadable(self._path, error) from None


def open_coder() -> AudioCodecContext:
    """Return a coder of such packets."""
    coder = av.CodecContext.create("aac", "w")
    assert isinstance(coder, AudioCodecContext)
    set_up(coder)
    coder.open()
    return coder


def set_up(coder: AudioCodecContext) -> None:
    """Give a coder its settings."""
    coder.sample_rate, coder.layout, coder.format = RATE, "stereo", "fltp"
    coder.bit_rate, coder.time_base = BITS, Fraction(1, RATE)


def sound_digest(path: str) -> str:
    """Return what tells the content of a sound file from that of others. Raises InputError where there is none."""
    try:
        check_file(path)
        stat = Path(path).stat()
        return _digest(path, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise InputError(f"cannot read the sound {path}: {error.strerror}; give --audio another file") from None


@lru_cache(maxsize=4)
def _digest(path: str, changed: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sound_seconds(path: str) -> float | None:
    """Return how long a sound file is; None where it does not say. Raises InputError for a file without sound."""
    try:
        with av.open(path, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise InputError(f"there is no sound in {path}; give --audio a file that has some")
            stream = container.streams.audio[0]
            next(container.decode(stream), None)
            if stream.duration is not None and stream.time_base is not None:
                return float(stream.duration * stream.time_base)
            return None if container.duration is None else container.duration / av.time_base
    except av.FFmpegError as error:
        raise _unreadable(Path(path), error) from None


def _unreadable(path: Path, error: av.FFmpegError) -> InputError:
    return InputError(f"cannot read the sound of {path}: {error.strerror}; give --audio another file")


def _coded(path: Path) -> Iterator[av.Packet]:
    """Yield packets that begin at 0, SAMPLES, 2 * SAMPLES ..."""
    coder = open_coder()
    for number, frame in enumerate(chain(_samples(path), repeat(_silence()))):
        frame.pts, frame.time_base, frame.sample_rate = number * SAMPLES, Fraction(1, RATE), RATE
        # The first packet lies before the start: it only leads over to the second.
        yield from (packet for packet in coder.encode(frame) if packet.pts is not None and packet.pts >= 0)


def _samples(path: Path) -> Iterator[av.AudioFrame]:
    """Yield a file's first sound as pairs of SAMPLES numbers, whatever time stamps say; silence fills up the last."""
    cutter = _resampler(frame_size=SAMPLES)
    with av.open(str(path), metadata_errors="replace") as container:
        # A sound may change its rate or its channels on the way, which a resampler does not take.
        for _, frames in groupby(container.decode(container.streams.audio[0]), _form):
            resampler = _resampler()
            for frame in chain(frames, [None]):
                if frame is not None:
                    frame.pts = None
                for piece in resampler.resample(frame):
                    piece.pts = None
                    yield from cutter.resample(piece)
    yield from map(_filled, cutter.resample(None))


def _form(frame: av.AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _resampler(frame_size: int | None = None) -> av.AudioResampler:
    return av.AudioResampler(format="fltp", layout="stereo", rate=RATE, frame_size=frame_size)


def _filled(frame: av.AudioFrame) -> av.AudioFrame:
    if frame.samples == SAMPLES:
        return frame
    return _frame(np.pad(frame.to_ndarray(), ((0, 0), (0, SAMPLES - frame.samples))))


def _silence() -> av.AudioFrame:
    return _frame(np.zeros((2, SAMPLES), np.float32))


def _frame(samples: np.ndarray) -> av.AudioFrame:
    return av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
