from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from longtake.errors import InputError
from longtake.video.read import open_video, read_frames


def write_film(
    path: Path,
    codec: str,
    times: Sequence[int] = range(0, 300, 10),
    container_options: dict | None = None,
    **options: str,
) -> Path:
    """Write a film whose frames are shown at these hundredths of a second; every frame differs from all others."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=Fraction(10), options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        if times[1] % 10:
            stream.codec_context.time_base = Fraction(1, 100)
        for index, time in enumerate(times):
            picture = np.full((48, 64, 3), index * 5 % 256, np.uint8)
            picture[:, index * 3 % 64] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


FILMS = [
    ("a.mp4", "libx264", {"g": "12", "bf": "2"}),
    ("open.mp4", "libx264", {"bf": "3", "x264-params": "open-gop=1:keyint=12:scenecut=0"}),
    ("a.avi", "mpeg4", {}),
    ("reordered.avi", "libx264", {"bf": "2"}),
    ("a.mkv", "ffv1", {}),
    ("a.webm", "libvpx-vp9", {"g": "10", "deadline": "realtime"}),
    ("hidden.webm", "libvpx", {"g": "10", "deadline": "realtime"}),
    ("a.mpg", "mpeg2video", {"bf": "2"}),
    ("a.ts", "libx264", {"g": "12"}),
    ("a.h264", "libx264", {}),
    ("a.flv", "flv1", {}),
]


@pytest.mark.parametrize(("name", "codec", "options"), FILMS, ids=[name for name, _, _ in FILMS])
def test_frames_reached_by_seeking_are_those_of_reading_in_order(tmp_path: Path, name: str, codec: str, options):
    path = write_film(tmp_path / name, codec, **options)
    film = open_video(path)
    in_order = np.concatenate(list(read_frames(path)))
    assert film.num_frames == len(in_order) == 30
    assert film.fps == pytest.approx(25 if name == "a.h264" else 10)  # A raw stream says nothing; FFmpeg takes 25.
    for start in (0, 1, 11, 12, 13, 23, 29):
        stop = min(start + 4, 30)
        np.testing.assert_array_equal(np.stack(list(film.read(start, stop))), in_order[start:stop])


@pytest.mark.parametrize(
    ("name", "seeks"), [("a.mp4", True), ("a.mkv", True), ("a.mpg", False), ("reordered.avi", False)]
)
def test_files_without_a_time_stamp_for_every_frame_are_known_as_such(tmp_path: Path, name: str, seeks: bool):
    codec, options = next((codec, options) for other, codec, options in FILMS if other == name)
    assert (open_video(write_film(tmp_path / name, codec, **options)).stamps is not None) == seeks


def test_a_variable_rate_keeps_its_times(tmp_path: Path):
    times = [index * index for index in range(20)]
    film = open_video(write_film(tmp_path / "a.mkv", "libx264", times, g="6"))
    assert film.times is not None and film.fps == pytest.approx(19 / 3.61)
    np.testing.assert_allclose(film.times, np.array(times) / 100, atol=0.001)
    in_order = np.concatenate(list(read_frames(film.path)))
    np.testing.assert_array_equal(np.stack(list(film.read(7, 11))), in_order[7:11])


def test_an_implausible_rate_is_not_believed(tmp_path: Path):
    assert open_video(write_film(tmp_path / "a.mkv", "ffv1", [0, 6000, 12000])).fps is None


def write_tone(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        tone.sample_rate = 44100
        container.mux(stream.encode(tone))
        container.mux(stream.encode())
    return path


def test_what_is_no_video_says_why(tmp_path: Path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is text")
    with pytest.raises(InputError, match="there is no video in it"):
        open_video(write_tone(tmp_path / "tone.mp4"))
    for name in ("empty.mp4", "text.mp4"):
        with pytest.raises(InputError, match=r"^Invalid data"):
            open_video(tmp_path / name)


def test_a_video_without_a_decoder_says_so(tmp_path: Path):
    film = write_film(tmp_path / "a.mp4", "libx264")
    film.write_bytes(film.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(InputError, match="there is no decoder for its video"):
        open_video(film)


def test_names_in_another_encoding_do_no_harm(tmp_path: Path):
    film = write_film(tmp_path / "a.avi", "mpeg4")
    assert film.read_bytes().count(b"Lavf") == 1
    film.write_bytes(film.read_bytes().replace(b"Lavf", b"L\xe9vf"))
    assert open_video(film).num_frames == 30


@pytest.mark.parametrize("movflags", ["0", "faststart"], ids=["index behind", "index before"])
def test_an_mp4_that_was_cut_off_says_so(tmp_path: Path, movflags: str):
    movie = write_film(tmp_path / "a.mp4", "libx264", container_options={"movflags": movflags})
    movie.write_bytes(movie.read_bytes()[: movie.stat().st_size * 2 // 3])
    with pytest.raises(InputError, match=r"^(there is no video|it is damaged or cut off at frame \d+)"):
        open_video(movie)


def test_what_a_cut_off_matroska_still_holds_can_be_read(tmp_path: Path):
    path = write_film(tmp_path / "a.mkv", "ffv1")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    film = open_video(path)
    assert 10 < film.num_frames < 20
    assert len(list(film.read(0, film.num_frames))) == film.num_frames


def test_damage_that_shows_only_when_decoding_names_the_file(tmp_path: Path):
    path = write_film(tmp_path / "a.mkv", "ffv1", range(0, 600, 10), slicecrc="1", level="3")
    film = open_video(path)
    damaged = bytearray(path.read_bytes())
    place = len(damaged) * 2 // 3
    damaged[place : place + 2000] = torch.randint(256, (2000,), generator=torch.Generator().manual_seed(0)).tolist()
    path.write_bytes(damaged)
    assert len(list(film.read(0, 20))) == 20
    with pytest.raises(InputError, match=r"cannot decode frame \d+ of .*a\.mkv"):
        list(film.read(0, 60))
