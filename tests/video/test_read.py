import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from longtake.errors import InputError
from longtake.video import read
from longtake.video.encoding import Encoding
from longtake.video.formats.mp4 import Mp4
from longtake.video.read import count_frames, open_video, read_frames, read_last


def write_film(path: Path, codec: str, num_frames: int) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(10))
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for grey in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), grey * 5, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.mkv", "ffv1")])
def test_frames_are_counted_without_decoding(tmp_path: Path, name: str, codec: str):
    film = write_film(tmp_path / name, codec, 23)
    assert count_frames(film) == 23 == sum(map(len, read_frames(film)))


def test_a_folder_is_counted_up_to_the_first_gap(tmp_path: Path):
    for frame in (0, 1, 2, 4):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{frame:06d}.png")
    assert count_frames(tmp_path) == 3


@pytest.mark.parametrize("change", [3, 16], ids=["within one chunk", "between two"])
def test_frames_of_different_sizes_are_an_error(tmp_path: Path, change: int):
    for frame in range(24):
        Image.new("RGB", (8, 8) if frame < change else (8, 10)).save(tmp_path / f"{frame:06d}.png")
    with pytest.raises(InputError, match="changes its size"):
        list(read_frames(tmp_path))


def test_what_is_no_video_is_an_error(tmp_path: Path):
    path = tmp_path / "a.mp4"
    path.write_text("text")
    with pytest.raises(InputError, match="cannot read"):
        count_frames(path)


def test_an_animated_webp_says_what_to_do_and_that_helps(tmp_path: Path):
    path, frames = tmp_path / "a.webp", [Image.new("RGB", (16, 16), (40 * level, 0, 0)) for level in (0, 1, 1, 5)]
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True, duration=125)
    for read_it in (count_frames, lambda path: list(read_frames(path))):
        with pytest.raises(InputError, match=r"a\.webp as a video: it is an animated WebP, .*; save its frames, .*png"):
            read_it(path)
    (tmp_path / "a").mkdir()
    with Image.open(path) as film:
        for number, frame in enumerate(ImageSequence.Iterator(film)):
            frame.convert("RGB").save(tmp_path / "a" / f"{number:06d}.png")
    (found,) = read_frames(tmp_path / "a")
    assert found[-1, 0, 0].tolist() == [200, 0, 0] and count_frames(tmp_path / "a") == len(found)
    frames[3].save(path)
    assert count_frames(path) == 1


@pytest.mark.parametrize(("name", "kind"), [("a.png", "PNG"), ("a.gif", "GIF"), ("a.png", "GIF"), ("a.PNG", "PNG")])
def test_an_animation_has_as_many_frames_whoever_asks(tmp_path: Path, name: str, kind: str):
    path, frames = tmp_path / name, [Image.new("RGB", (16, 16), (40 * level, 0, 0)) for level in range(5)]
    frames[0].save(path, kind, save_all=True, append_images=frames[1:], duration=125)
    last = read_last(path, 3, (16, 16))
    assert count_frames(path) == sum(map(len, read_frames(path))) == 5
    assert last[:, 0, 0, 0].tolist() == [80, 120, 160] and len(read_last(path, 8, (16, 16))) == 5
    frames[0].save(path, kind)
    assert count_frames(path) == len(read_last(path, 8, (16, 16))) == 1


def test_an_animated_webp_is_no_picture_by_another_name(tmp_path: Path):
    path, frames = tmp_path / "a.png", [Image.new("RGB", (16, 16), (40 * level, 0, 0)) for level in range(5)]
    frames[0].save(path, "WEBP", save_all=True, append_images=frames[1:], duration=125)
    for read_it in (count_frames, lambda path: read_last(path, 8, (16, 16))):
        with pytest.raises(InputError, match="it is an animated WebP"):
            read_it(path)


def test_a_second_view_behind_a_picture_is_no_frame(tmp_path: Path):
    views = [Image.new("RGB", (16, 16), (level, 0, 0)) for level in (40, 200)]
    views[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=views[1:])
    assert count_frames(tmp_path / "a.jpg") == len(read_last(tmp_path / "a.jpg", 8, (16, 16))) == 1


def turned(path: Path, matrix: tuple[int, ...]) -> Path:
    """Write the display matrix of a track (ISO/IEC 14496-12, 8.3.2) into an MP4."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    data[place : place + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)
    return path


# Rows of the matrix that players apply, and how often they turn the picture to the left.
UPRIGHT = [((0, 1, 0, -1, 0, 0), 3), ((-1, 0, 0, 0, -1, 0), 2), ((0, -1, 0, 1, 0, 0), 1)]


@pytest.mark.parametrize(("matrix", "turn"), UPRIGHT)
def test_a_video_that_was_filmed_upright_is_turned(tmp_path: Path, matrix: tuple[int, ...], turn: int):
    film = tmp_path / "a.mp4"
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:16, :16] = 255
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    plain = np.concatenate(list(read_frames(film)))
    turned(film, tuple(value * 65536 for value in (*matrix, 0, 0, 16384)))
    found = np.concatenate(list(read_frames(film)))
    np.testing.assert_array_equal(found, np.rot90(plain, turn, axes=(1, 2)))
    np.testing.assert_array_equal(np.stack(list(open_video(film).read(0, 5))), found)


def test_frames_by_number_of_an_unsteady_rate_are_counted(tmp_path: Path):
    film = tmp_path / "a.mkv"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(10), options={"g": "6"})
        stream.width = stream.height = 32
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, 100)
        for grey in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), grey * 12, np.uint8), format="rgb24")
            frame.pts, frame.time_base = grey * grey, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frames = np.concatenate(list(read_frames(film)))
    assert len(frames) == count_frames(film) == 20
    for start in range(20):
        np.testing.assert_array_equal(
            np.concatenate(list(read_frames(film, start, start + 2))), frames[start : start + 2]
        )
    assert list(read_frames(film, 20)) == list(read_frames(film, 99)) == []


def test_frames_that_an_edit_list_takes_away_do_not_count(tmp_path: Path):
    film = write_film(tmp_path / "a.mp4", "libx264", 24)
    data = bytearray(film.read_bytes())
    place = data.index(b"elst") + 4 + 8
    # The movie's clock has 1000 ticks a second; the track's is told by its header.
    ticks = int.from_bytes(data[data.index(b"mdhd") + 16 : data.index(b"mdhd") + 20], "big")
    start = int.from_bytes(data[place + 4 : place + 8], "big") + ticks
    data[place : place + 8] = struct.pack(">Ii", 1400, start)
    film.write_bytes(data)
    assert count_frames(film) == sum(map(len, read_frames(film))) == 14


def test_a_file_without_video_is_an_error(tmp_path: Path):
    (tmp_path / "empty.mp4").touch()
    for counted in (count_frames, lambda path: list(read_frames(path)), lambda path: list(read_frames(path, 3))):
        with pytest.raises(InputError, match=r"^cannot read .*empty\.mp4 as a video"):
            counted(tmp_path / "empty.mp4")


def test_the_end_of_a_video_is_decoded_once_and_again_when_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    opened, decoded = [], read.decoded
    monkeypatch.setattr(read, "decoded", lambda *given: opened.append(given) or decoded(*given))
    film = write_film(tmp_path / "a.mkv", "ffv1", 9)
    first = read_last(film, 2, (32, 32))
    times = len(opened)
    np.testing.assert_array_equal(read_last(film, 2, (32, 32)), first)
    assert len(opened) == times and len(read_last(film, 3, (32, 32))) == 3
    write_film(film, "ffv1", 20)
    assert read_last(film, 2, (32, 32)).mean() > first.mean() + 40


@pytest.mark.parametrize("scale", [2, 4])
def test_an_enlarged_video_is_read_in_the_colours_that_were_written(tmp_path: Path, scale: int):
    frames = np.random.default_rng(0).integers(30, 220, (4, 8, 8, 3)).astype(np.uint8)
    film = Mp4(Encoding(rate=Fraction(8), height=8, width=8, scale=scale, crf=0, segment=4, comment=""))
    (tmp_path / "a.mp4").write_bytes(film.header(4) + film.segment(0, frames))
    (back,) = read_frames(tmp_path / "a.mp4", scale=scale)
    # A colour from the square beside would be 80 grey levels off on average.
    assert abs(back.astype(int) - frames).max() <= 4
