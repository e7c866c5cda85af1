"""The bytes of a video that can be read while it is made, the pieces they come in, and pictures of it.

Only what the run has committed is read: what lies behind may be cut off when the run goes on after a kill. Whole pieces
are committed, so that what has been read plays at any time.
"""

import asyncio
import io
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from longtake.errors import CheckpointError
from longtake.video.files import RECORD_FILE, state_folder
from longtake.video.read import decoded, rgb
from longtake.video.record import read_record

_HEAD = 1 << 15
BLOCK = 1 << 18
"""Bytes that are read at once."""
LOOK_SECONDS = 0.1
"""How often one looks whether a video has grown."""
THUMBNAIL = (320, 320)
"""Largest width and height of a thumbnail, in pixels."""
TILES, COLUMNS, TILE = 25, 5, (160, 160)
"""Pictures on a sheet at most, how many stand in a row, and their largest width and height."""


@dataclass(frozen=True, kw_only=True)
class Committed:
    """How much of a video's file is settled."""

    bytes: int = 0
    frames: int = 0
    checksum: int = 0
    """CRC-32 of the bytes after the header."""
    finished: bool = False


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A fragment of an MP4 (moof and mdat), which begins with a key frame."""

    start: int
    stop: int
    """Where it lies in the file, in bytes."""
    first: int
    frames: int
    """The number of its first frame, and how many it has."""


class Growth:
    """Looks how far a video is, and reads its record only when that has changed."""

    def __init__(self, path: Path) -> None:
        self._path, self._seen, self._last = path, (0, 0), Committed()

    def now(self) -> Committed:
        """Return how much is committed; nothing for a video that has not begun, is gone, or whose record is damaged,
        of which its run tells."""
        try:
            found = os.stat(state_folder(self._path) / RECORD_FILE)
        except FileNotFoundError:
            return Committed()
        seen = (found.st_ino, found.st_mtime_ns)
        if seen != self._seen:
            self._seen, self._last = seen, _committed(self._path)
        return self._last


def _committed(path: Path) -> Committed:
    try:
        record = read_record(path)
    except CheckpointError:
        return Committed()
    if record is None or not record.mark:
        return Committed()
    return Committed(
        bytes=record.mark["bytes"],
        frames=record.stored,
        checksum=record.mark["crc32"],
        finished=record.finished,
    )


def read_settled(path: Path, start: int, stop: int, *, finished: bool) -> bytes:
    """Return bytes of a video's file. Until it is finished they say nothing of its length, which a run writes into the
    header whenever it stops."""
    with path.open("rb") as file:
        data = bytearray(_at(file, start, stop - start))
        if not finished:
            field = _length_field(_at(file, 0, _HEAD))
            for place in range(max(field.start, start), min(field.stop, start + len(data))):
                data[place - start] = 0
    return bytes(data)


def _at(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)


def _length_field(head: bytes) -> slice:
    """Return where the duration of the movie extends header stands, as `longtake.video.formats.mp4` writes it."""
    found = head.find(b"mehd")
    return slice(found + 8, found + 16) if found >= 0 else slice(0, 0)


def pieces(path: Path, start: int, stop: int, first: int = 0) -> Iterator[Piece]:
    """Yield the fragments between two places in a file, of which `start` is 0 or where one begins; its first frame is
    `first`. What comes before the first fragment, the header, belongs to it."""
    with path.open("rb") as file:
        begin, place, frames = start, start, 0
        while place < stop:
            head = _at(file, place, 8)
            size, kind = int.from_bytes(head[:4], "big"), head[4:]
            if size < 8:
                return
            if kind == b"moof":
                frames = _samples(_at(file, place, size))
            place += size
            if kind == b"mdat":
                yield Piece(start=begin, stop=place, first=first, frames=frames)
                begin, first = place, first + frames


def first_piece(path: Path, start: int, stop: int, first: int) -> Piece | None:
    """Return the first of these fragments, None where there is none yet."""
    return next(pieces(path, start, stop, first), None)


def _samples(moof: bytes) -> int:
    """Return the number of samples that the track run box of a fragment counts (ISO/IEC 14496-12, 8.8.8)."""
    place = moof.index(b"trun") + 8
    return int.from_bytes(moof[place : place + 4], "big")


async def grown(path: Path, start: int, is_over: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
    """Yield the bytes of a video from `start` on as they are committed, until it is finished or `is_over`: nobody makes
    more of it."""
    growth = Growth(path)
    while True:
        over, now = await is_over(), growth.now()
        async for block in blocks(path, start, now.bytes, finished=False):
            yield block
            start += len(block)
        if over or now.finished:
            return
        await asyncio.sleep(LOOK_SECONDS)


async def blocks(path: Path, start: int, stop: int, *, finished: bool) -> AsyncIterator[bytes]:
    """Yield bytes of a video that are committed, a few at a time, for as long as it is there."""
    for place in range(start, stop, BLOCK):
        try:
            yield await asyncio.to_thread(read_settled, path, place, min(place + BLOCK, stop), finished=finished)
        except FileNotFoundError:
            return


def asked_range(header: str | None, total: int | None) -> range | None:
    """Return the bytes that a Range header asks for, an empty range where there are none such; None for no header, one
    that is no range, and several ranges, in which case all is sent (RFC 9110, 14.2).

    `total` is None for a video that grows: its range may end later than the video does now, and none counts from the
    end.
    """
    found = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header or "", re.ASCII)
    if not found or found[1] == found[2] == "" or (total is None and not found[1]):
        return None
    if not found[1]:
        assert total is not None
        return range(max(0, total - int(found[2])), total) if int(found[2]) else range(0)
    start, stop = int(found[1]), int(found[2]) + 1 if found[2] else (1 << 62)
    if stop <= start:
        return None
    return range(start, stop if total is None else min(stop, total))


def thumbnail(path: Path, committed: Committed, frame: int = 0) -> bytes:
    """Return a frame of a video as WebP, the last for one that is not there. Raises FileNotFoundError where there is
    none yet."""
    (shown,) = _pictures(path, committed, [min(frame, committed.frames - 1)])
    shown.thumbnail(THUMBNAIL)
    return _encoded(shown, "WEBP")


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Pictures from all over a video, in rows."""

    data: bytes
    """JPEG."""
    frames: Sequence[int]
    """Which frames they are."""
    columns: int


def spritesheet(path: Path, committed: Committed) -> Sheet:
    """Return pictures that are spread evenly over what there is of a video, of a long one the first of its pieces.

    Raises FileNotFoundError where there is none yet.
    """
    count = min(TILES, committed.frames)
    frames = [number * committed.frames // max(count, 1) for number in range(count)]
    whole = [piece.first for piece in pieces(path, 0, committed.bytes)] if committed.bytes else []
    if len(whole) >= TILES:
        frames = [max(first for first in whole if first <= frame) for frame in frames]
    tiles = list(_pictures(path, committed, frames))
    for tile in tiles:
        tile.thumbnail(TILE)
    width, height, columns = tiles[0].width, tiles[0].height, min(COLUMNS, len(tiles))
    sheet = Image.new("RGB", (width * columns, height * -(-len(tiles) // columns)))
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % columns * width, number // columns * height))
    return Sheet(data=_encoded(sheet, "JPEG"), frames=frames, columns=columns)


def _pictures(path: Path, committed: Committed, frames: Sequence[int]) -> Iterator[Image.Image]:
    """Yield frames of a video, whose numbers rise, of each piece no more than it takes."""
    if not committed.frames:
        raise FileNotFoundError(path)
    wanted = list(frames)
    for piece in pieces(path, 0, committed.bytes):
        here = [frame - piece.first for frame in wanted if frame < piece.first + piece.frames]
        wanted = wanted[len(here) :]
        if here:
            shown = islice(frames_of(path, piece), here[-1] + 1)
            yield from (Image.fromarray(frame) for number, frame in enumerate(shown) if number in here)


def frames_of(path: Path, piece: Piece) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a piece, uint8 (height, width, 3)."""
    data = read_settled(path, piece.start, piece.stop, finished=False)
    if piece.start:
        head = read_settled(path, 0, _HEAD, finished=False)
        data = head[: head.index(b"moof") - 4] + data
    yield from map(rgb, decoded(io.BytesIO(data)))


def _encoded(picture: Image.Image, format: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, quality=85)
    return buffer.getvalue()
