"""Pictures as cameras and tools write them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from longtake.errors import InputError
from longtake.video.pictures import picture_size, read_picture

CORNERS = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40


def test_sixteen_bits_of_grey_become_eight(tmp_path: Path) -> None:
    Image.fromarray(CORNERS.astype(np.uint16) * 257).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), np.stack([CORNERS] * 3, axis=-1))


@pytest.mark.parametrize(("orientation", "turn"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_a_camera_that_was_turned(tmp_path: Path, orientation: int, turn: int) -> None:
    picture = Image.fromarray(np.stack([CORNERS] * 3, axis=-1))
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.png", exif=exif)
    right = np.rot90(np.stack([CORNERS] * 3, axis=-1), turn)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), right)
    assert picture_size(tmp_path / "a.png") == (right.shape[1], right.shape[0])


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    for read in (read_picture, picture_size):
        with pytest.raises(InputError, match=r"^[^\n]*a\.png[^\n]*$"):
            read(tmp_path / "a.png")
