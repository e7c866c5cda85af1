"""What stores frames so that it can be cut back to a known place, and the one of all files that only grow."""

import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from longtake.video import durable
from longtake.video.encoding import Encoding
from longtake.video.record import unlike

Mark = dict[str, int]
_BLOCK = 1 << 20


class Writer(ABC):
    """Stores segments one after another. A mark says how far the output is valid; frames after it can be cut off."""

    @abstractmethod
    def start(self) -> Mark:
        """Create the output, or empty it, and return the mark of an output without frames."""

    @abstractmethod
    def verify(self, mark: Mark, num_frames: int, *, complete: bool) -> None:
        """Open the output, which is there, and check it up to the mark, `num_frames` frames; change nothing.

        `complete` tells a finished output. Raises CheckpointError when it is not what was written.
        """

    @abstractmethod
    def cut(self, mark: Mark) -> None:
        """Remove what follows the mark."""

    @abstractmethod
    def append(self, mark: Mark, first_frame: int, frames: np.ndarray) -> Mark:
        """Store uint8 frames (frames, height, width, 3) after the mark, where the output ends; return the new mark."""

    @abstractmethod
    def is_in_place(self) -> bool:
        """Whether the output is still where it was opened, not moved, replaced or deleted meanwhile."""

    @abstractmethod
    def close_at(self, num_frames: int) -> None:
        """Write the number of frames where the output keeps it, so that players know the length."""

    @abstractmethod
    def count(self) -> int:
        """Open the output as a player would and return how many frames are in it; 0 where it cannot be read."""

    @abstractmethod
    def sync(self) -> None:
        """Wait until everything stored so far is on the disk."""

    @abstractmethod
    def encoder(self) -> str:
        """Name and version of what encodes the frames."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the output."""


class Container(ABC):
    """Turns frames into bytes: one header, then segments that only depend on their own frames and place."""

    @abstractmethod
    def header(self, num_frames: int) -> bytes:
        """Return the start of the file; it has the same length for every `num_frames`, 0 = not known yet."""

    @abstractmethod
    def length_field(self) -> slice:
        """Return where in the header the number of frames stands."""

    @abstractmethod
    def segment(self, first_frame: int, frames: np.ndarray) -> bytes:
        """Encode uint8 frames (frames, height, width, 3), the first of which is `first_frame` of the video."""

    @abstractmethod
    def encoder(self) -> str:
        """Name and version of the encoder."""


def enlarged(video: Encoding, first_frame: int, frames: np.ndarray) -> Iterator[av.VideoFrame]:
    """Yield RGB frames for an encoder, each pixel enlarged to a square, with their number as time stamp."""
    for index, frame in enumerate(frames):
        large = frame.repeat(video.scale, axis=0).repeat(video.scale, axis=1)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(large), format="rgb24")
        picture.pts = first_frame + index
        picture.time_base = 1 / video.rate
        yield picture


class AppendFile(Writer):
    """Writes a container's bytes to one file. Its mark: `bytes` from the start, `crc32` of those after the header."""

    def __init__(self, path: Path, container: Container) -> None:
        self._path = path
        self._container = container
        self._descriptor = -1

    def start(self) -> Mark:
        """Create or empty the file and write the header."""
        self._descriptor = durable.open_file(self._path, os.O_CREAT | os.O_TRUNC)
        header = self._container.header(0)
        durable.write_all(self._descriptor, header)
        durable.reach("header-written")
        os.fsync(self._descriptor)
        durable.sync_folder(self._path.absolute().parent)
        return {"bytes": len(header), "crc32": 0}

    def verify(self, mark: Mark, num_frames: int, *, complete: bool) -> None:
        """Compare the header and the checksum."""
        self._descriptor = durable.open_file(self._path, 0)
        header = self._container.header(num_frames if complete else 0)
        found = bytearray(durable.read_at(self._descriptor, len(header), 0))
        if not complete:
            # An interrupted run has left its own number of frames there.
            field = self._container.length_field()
            found[field] = header[field]
        if found != header:
            raise unlike(self._path, "has another beginning than this version of longtake and its encoder would write")
        if self._checksum(len(header), mark["bytes"]) != mark["crc32"]:
            raise unlike(self._path, "was changed since its run wrote it")

    def cut(self, mark: Mark) -> None:
        """Shorten the file to the mark and forget its number of frames."""
        os.ftruncate(self._descriptor, mark["bytes"])
        durable.write_at(self._descriptor, self._container.header(0), 0)

    def append(self, mark: Mark, first_frame: int, frames: np.ndarray) -> Mark:
        """Encode one segment and write it at the end."""
        data = self._container.segment(first_frame, frames)
        durable.reach("segment-encoded")
        durable.write_at(self._descriptor, data, mark["bytes"])
        durable.reach("bytes-written")
        return {"bytes": mark["bytes"] + len(data), "crc32": zlib.crc32(data, mark["crc32"])}

    def is_in_place(self) -> bool:
        """Compare the open file with the one that has its name."""
        here = os.fstat(self._descriptor)
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False
        # Some shares number files as they like, but they know their sizes.
        return os.path.samestat(here, there) or here.st_size == there.st_size

    def close_at(self, num_frames: int) -> None:
        """Put the length into the header, in place."""
        durable.write_at(self._descriptor, self._container.header(num_frames), 0)
        durable.reach("length-written")

    def count(self) -> int:
        """Return how many frames a demuxer finds."""
        try:
            with av.open(str(self._path)) as container:
                return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))
        except (av.FFmpegError, IndexError):
            return 0

    def sync(self) -> None:
        """Wait for the disk."""
        os.fsync(self._descriptor)

    def encoder(self) -> str:
        """Name and version of the encoder."""
        return self._container.encoder()

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _checksum(self, start: int, stop: int) -> int:
        value = 0
        for place in range(start, stop, _BLOCK):
            value = zlib.crc32(durable.read_at(self._descriptor, min(_BLOCK, stop - place), place), value)
        return value
