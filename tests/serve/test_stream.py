"""What can be read of a video while it is made: whole pieces that play, and nothing that may be cut off again."""

import asyncio
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from longtake.serve.stream import Growth, asked_range, frames_of, grown, pieces, read_settled, spritesheet, thumbnail
from longtake.video.read import count_frames, decoded, read_frames, rgb

from .conftest import Film, write_film


def test_what_is_committed_of_a_killed_run_is_the_head_of_the_whole(film: Film) -> None:
    path = film(stop=24)
    now = Growth(path).now()
    # What the run left behind its last whole piece is cut off when it goes on, and its header tells of it.
    assert not now.finished and 0 < now.frames < 40 and path.stat().st_size >= now.bytes
    head = read_settled(path, 0, now.bytes, finished=False)
    assert count_frames(path) >= now.frames == sum(1 for _ in decoded(io.BytesIO(head)))
    whole = film()
    after = Growth(whole).now()
    assert after.finished and after.frames == 40 and after.bytes == whole.stat().st_size
    assert read_settled(whole, 0, after.bytes, finished=True) == whole.read_bytes()
    assert read_settled(whole, 0, after.bytes, finished=False)[: len(head)] == head
    # The length of the video is said in the end, and only there.
    assert read_settled(whole, 0, after.bytes, finished=True)[: len(head)] != head


def test_a_block_within_the_header_says_nothing_of_the_length_either(film: Film) -> None:
    path = film()
    whole = read_settled(path, 0, 2000, finished=False)
    at = path.read_bytes().index(b"mehd") + 10
    parts = [read_settled(path, place, place + 3, finished=False) for place in range(at - 9, at + 9, 3)]
    assert b"".join(parts) == whole[at - 9 : at + 9] != path.read_bytes()[at - 9 : at + 9]


def test_pieces_are_the_segments_of_the_file(film: Film) -> None:
    path = film(frames=37)
    found = list(pieces(path, 0, path.stat().st_size))
    assert [(piece.first, piece.frames) for piece in found] == [(0, 8), (8, 8), (16, 8), (24, 8), (32, 5)]
    assert [piece.start for piece in found] == [0, *(piece.stop for piece in found[:-1])]
    later = list(pieces(path, found[2].start, found[3].stop, found[2].first))
    assert later == found[2:4]
    shown = [np.stack(list(frames_of(path, piece))) for piece in found]
    assert np.array_equal(np.concatenate(shown), np.concatenate(list(read_frames(path))))


def test_a_file_that_ends_within_a_box_ends_the_pieces(film: Film) -> None:
    path = film()
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(bytes(8))
    assert len(list(pieces(path, 0, size + 8))) == 5


async def never() -> bool:
    return False


async def always() -> bool:
    return True


def test_a_stream_gives_every_committed_byte_once_and_ends_with_the_video(film: Film) -> None:
    path = film(stop=24)
    first = Growth(path).now()

    async def read() -> list[bytes]:
        blocks = []
        async for block in grown(path, 0, never):
            blocks.append(block)
            if len(blocks) == 1:
                await asyncio.to_thread(film)
        return blocks

    blocks = asyncio.run(read())
    assert len(blocks[0]) == first.bytes and len(blocks) > 1
    assert b"".join(blocks) == read_settled(path, 0, path.stat().st_size, finished=False)


def test_a_stream_ends_where_nobody_makes_more(film: Film) -> None:
    path = film(stop=24)

    async def read() -> int:
        return sum([len(block) async for block in grown(path, 100, always)])

    assert asyncio.run(read()) == Growth(path).now().bytes - 100


@pytest.mark.parametrize(
    ("header", "total", "expected"),
    [
        (None, 100, None),
        ("bytes=0-9", 100, range(10)),
        ("bytes=90-200", 100, range(90, 100)),
        ("bytes=-10", 100, range(90, 100)),
        ("bytes=-200", 100, range(100)),
        ("bytes=100-", 100, range(0)),
        ("bytes=-0", 100, range(0)),
        ("bytes=5-4", 100, None),
        ("bytes=0-1,5-6", 100, None),
        ("bytes=\u0661-2", 100, None),
        ("lines=0-9", 100, None),
        ("bytes=" + "9" * 30 + "-", 100, None),
        ("bytes=5-9", None, range(5, 10)),
        ("bytes=-10", None, None),
    ],
)
def test_ranges(header: str | None, total: int | None, expected: range | None) -> None:
    # Ranges without anything in them are equal, wherever they are.
    assert asked_range(header, total) == expected


def test_pictures_are_those_of_the_video(film: Film) -> None:
    path = film(stop=24)
    now = Growth(path).now()
    shown = [rgb(frame) for frame in decoded(io.BytesIO(read_settled(path, 0, now.bytes, finished=False)))]
    for asked, frame in ((0, 0), (17, 17), (1 << 40, now.frames - 1)):
        small = np.asarray(Image.open(io.BytesIO(thumbnail(path, now, asked))).convert("RGB"), np.int16)
        assert small.shape == (16, 16, 3) and np.abs(small - shown[frame]).mean() < 8
    sheet = spritesheet(path, now)
    tiles = np.asarray(Image.open(io.BytesIO(sheet.data)), np.int16)
    assert list(sheet.frames) == list(range(now.frames)) and sheet.columns == 5
    for number, frame in enumerate(sheet.frames):
        row, column = number // 5 * 16, number % 5 * 16
        assert np.abs(tiles[row : row + 16, column : column + 16] - shown[frame]).mean() < 12


def test_a_sheet_of_a_long_video_has_the_first_frames_of_its_pieces(tmp_path: Path) -> None:
    path = write_film(tmp_path / "long.mp4", frames=60, segment=2)
    sheet = spritesheet(path, Growth(path).now())
    assert len(sheet.frames) == 25 and all(frame % 2 == 0 for frame in sheet.frames)


def test_nothing_is_committed_before_a_run_begins(tmp_path: Path) -> None:
    growth = Growth(tmp_path / "none.mp4")
    assert growth.now().bytes == 0 and not growth.now().finished
    with pytest.raises(FileNotFoundError):
        thumbnail(tmp_path / "none.mp4", growth.now())
