"""Lay frames of a video out as one picture: python scripts/contact_sheet.py VIDEO SHEET.png [--every 8].

Of several videos (VIDEO VIDEO SHEET.png), each row of one is followed by the same frames of the next.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from longtake.errors import InputError, LongtakeError
from longtake.video.output import refuse_inputs
from longtake.video.read import read_frames


def contact_sheet(videos: list[Path], every: int, columns: int, scale: int) -> Image.Image:
    """Return every `every`-th frame, row by row, as far as the shortest video goes; `scale` undoes an enlargement.

    Raises InputError for what cannot be read or laid out.
    """
    for option, value in (("--every", every), ("--columns", columns), ("--scale", scale)):
        if value < 1:
            raise InputError(f"{option} {value} cannot be; give 1 or more")
    moments = list(zip(*(_chosen(video, every, scale) for video in videos), strict=False))
    if not moments:
        raise InputError(f"there is no frame in {' or '.join(map(str, videos))}")
    columns = min(columns, len(moments))
    groups = (moments[at : at + columns] for at in range(0, len(moments), columns))
    rows = [row for group in groups for row in zip(*group, strict=True)]
    if len({frame.shape for row in rows for frame in row}) > 1:
        raise InputError("the videos differ in size; give one sheet to each, or those of one size")
    height, width, _ = rows[0][0].shape
    sheet = np.full((len(rows) * (height + 2), columns * (width + 2), 3), 255, np.uint8)
    for row, frames in enumerate(rows):
        for column, frame in enumerate(frames):
            top, left = row * (height + 2), column * (width + 2)
            sheet[top : top + height, left : left + width] = frame
    return Image.fromarray(sheet)


def _chosen(video: Path, every: int, scale: int) -> list[NDArray[np.uint8]]:
    if not video.exists():
        raise InputError(f"there is no {video}; give a video file or a folder of numbered PNG files")
    chosen, number = [], 0
    for chunk in read_frames(video, scale=scale):
        chosen += [frame for index, frame in enumerate(chunk) if (number + index) % every == 0]
        number += len(chunk)
    return chosen


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--columns", type=int, default=16)
    parser.add_argument("--scale", type=int, default=1)
    given = parser.parse_args()
    try:
        refuse_inputs(given.sheet, given.videos, "name")
        contact_sheet(given.videos, given.every, given.columns, given.scale).save(given.sheet, optimize=True)
    except (LongtakeError, OSError, ValueError) as error:
        # Of a sheet that Pillow cannot write it says why.
        print(f"contact_sheet: {error}", file=sys.stderr)
        sys.exit(2)
