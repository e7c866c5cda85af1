"""Lay frames of a video out as one picture: python scripts/contact_sheet.py VIDEO SHEET.png [--every 8]."""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from longtake.video.read import read_frames


def contact_sheet(video: Path, every: int, columns: int, scale: int) -> Image.Image:
    """Return every `every`-th frame, row by row; `scale` undoes an enlargement."""
    chosen, number = [], 0
    for chunk in read_frames(video, scale=scale):
        chosen += [frame for index, frame in enumerate(chunk) if (number + index) % every == 0]
        number += len(chunk)
    height, width, _ = chosen[0].shape
    rows = -(-len(chosen) // columns)
    sheet = np.full((rows * (height + 2), columns * (width + 2), 3), 255, np.uint8)
    for index, frame in enumerate(chosen):
        top, left = index // columns * (height + 2), index % columns * (width + 2)
        sheet[top : top + height, left : left + width] = frame
    return Image.fromarray(sheet)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--columns", type=int, default=16)
    parser.add_argument("--scale", type=int, default=1)
    chosen = parser.parse_args()
    contact_sheet(chosen.video, chosen.every, chosen.columns, chosen.scale).save(chosen.sheet, optimize=True)
