from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from longtake.errors import InputError
from longtake.video.read import count_frames, read_frames


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
