"""Keyframes from a folder, as people have them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from longtake.errors import InputError
from longtake.models.toy_spec import TOY
from longtake.samplers.keyframes import keyframe_files, keyframe_pixels

SPEC = replace(TOY, height=2, width=3)


def test_keyframes_are_counted_and_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    for number in range(1, 12):
        Image.new("RGB", (3, 2), (number,) * 3).save(tmp_path / f"{number}.png")
    for name in (".DS_Store", "._1.png", "Thumbs.db", "desktop.ini"):
        (tmp_path / name).write_bytes(b"of the desktop")
    files = keyframe_files(str(tmp_path), SPEC)
    assert [file.stem for file in files] == [str(number) for number in range(1, 12)]
    assert keyframe_pixels(str(tmp_path), SPEC)[:, 0, 0, 0].tolist() == list(range(1, 12))


def test_a_turned_picture_and_one_of_sixteen_bits_are_what_one_sees(tmp_path: Path) -> None:
    upright = Image.new("RGB", (2, 3), (9, 8, 7))
    exif = upright.getexif()
    exif[0x0112] = 6
    upright.save(tmp_path / "1.png", exif=exif)
    Image.fromarray(np.full((2, 3), 257 * 50, np.uint16)).save(tmp_path / "2.png")
    first, second = keyframe_pixels(str(tmp_path), SPEC)
    assert first[0, 0].tolist() == [9, 8, 7] and second[0, 0].tolist() == [50, 50, 50]
    with pytest.raises(InputError, match="1.png has 3x2 pixels"):
        keyframe_files(str(tmp_path), replace(TOY, height=3, width=2))
