"""The script that lays frames of a video out as one picture."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[1] / "scripts" / "contact_sheet.py"


def laid_out(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "video").mkdir()
    for number in range(9):
        Image.fromarray(np.full((16, 24, 3), 20 * number, np.uint8)).save(tmp_path / "video" / f"{number:06d}.png")
    return tmp_path


def test_a_short_video_makes_a_sheet_as_wide_as_its_pictures(folder: Path) -> None:
    assert laid_out(folder, "video", "sheet.png", "--every", "4").returncode == 0
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.size == (3 * 26, 18)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("none", "sheet.png"), "there is no none"),
        (("video", "sheet.png", "--scale", "5"), "scale 5 does not divide"),
        (("video", "sheet.png", "--every", "0"), "--every 0 cannot be"),
        (("video", "video/000000.png"), "video/000000.png: it belongs to video, which is read"),
        (("video", "gone/sheet.png"), "gone/sheet.png"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, arguments: tuple[str, ...], problem: str) -> None:
    done = laid_out(folder, *arguments)
    assert done.returncode == 2 and problem in done.stderr and done.stderr.count("\n") == 1
