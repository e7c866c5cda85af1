"""A file that only grows: header first, then segments, with a running checksum."""

import os
import zlib
from pathlib import Path

import av
import numpy as np

from longtake.video import durable, points
from longtake.video.container import Container
from longtake.video.record import unlike
from longtake.video.writer import Mark, Writer

_BLOCK = 1 << 20


class GrowingFile(Writer):
    """Writes a container's bytes to one file. Its mark: `bytes` from the start, `crc32` of those after the header."""

    def __init__(self, path: Path, container: Container) -> None:
        self._path = path
        self._container = container
        self._descriptor = -1

    def start(self) -> Mark:
        """Create or empty the file and write the header."""
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        header = self._container.header(0)
        durable.write_all(self._descriptor, header)
        points.reach("header-written")
        os.fsync(self._descriptor)
        durable.sync_folder(self._path.absolute().parent)
        return {"bytes": len(header), "crc32": 0}

    def verify(self, mark: Mark, num_frames: int, *, complete: bool) -> None:
        """Compare the header and the checksum."""
        self._descriptor = os.open(self._path, os.O_RDWR)
        header = self._container.header(num_frames if complete else 0)
        found = bytearray(os.pread(self._descriptor, len(header), 0))
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
        os.pwrite(self._descriptor, self._container.header(0), 0)

    def append(self, mark: Mark, first_frame: int, frames: np.ndarray) -> Mark:
        """Encode one segment and write it at the end."""
        data = self._container.segment(first_frame, frames)
        points.reach("segment-encoded")
        os.lseek(self._descriptor, mark["bytes"], os.SEEK_SET)
        durable.write_all(self._descriptor, data)
        points.reach("bytes-written")
        return {"bytes": mark["bytes"] + len(data), "crc32": zlib.crc32(data, mark["crc32"])}

    def close_at(self, num_frames: int) -> None:
        """Put the length into the header, in place."""
        os.pwrite(self._descriptor, self._container.header(num_frames), 0)
        points.reach("length-written")

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
            value = zlib.crc32(os.pread(self._descriptor, min(_BLOCK, stop - place), place), value)
        return value
