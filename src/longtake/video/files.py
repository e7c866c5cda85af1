"""How the files of a run are called, and which files of a folder are videos and pictures, and in which order.

Free of everything but the standard library.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

VIDEO_ENDINGS = frozenset(
    ".mp4 .mkv .avi .webm .mov .m4v .mpg .mpeg .m2v .gif .flv .wmv .asf .ts .mts .m2ts .ogv .3gp .vob .mxf .nut .y4m "
    ".h264 .264 .hevc .mjpeg .dv".split()
)
"""Endings of the files that are taken for videos."""
PICTURE_ENDINGS = frozenset({".png", ".jpg", ".jpeg"})
"""Endings of the files that are taken for pictures."""
MANIFEST_ENDING = ".jsonl"
"""Ending of the list that a batch keeps of its videos."""
FRAME_FILE = re.compile(r"\d{6,}\.png")
"""What a frame is called in an output of PNG files."""
RECORD_FILE = "state.json"
"""What the record of a run is called in its state folder."""
# What desktops, network drives and archives leave in every folder; other hidden files are left alone as well.
_LEFT_BEHIND = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx"})


def state_folder(path: str | Path) -> Path:
    """Return the folder beside the output that holds what a killed run continues from."""
    return Path(f"{Path(path)}.state")


def report_path(output: Path) -> Path:
    """Return where the report of an output lies: out.json for out.mp4, frames.json beside the folder frames/."""
    return output.with_suffix(".json")


def subtitle_path(output: Path) -> Path:
    """Return where the subtitles lie that say which prompt was meant when."""
    return output.with_suffix(".vtt")


def frame_file(folder: Path, frame: int) -> Path:
    """Return the path of one frame in a folder of PNG files."""
    return folder / f"{frame:06d}.png"


def is_ours(name: str) -> bool:
    """Whether a name in a folder is one that somebody has put there: not hidden, and not left behind by a desktop."""
    return not name.startswith(".") and name.lower() not in _LEFT_BEHIND


def natural_order(path: Path) -> tuple[object, ...]:
    """Return what sorts paths as people count: 1, 2, 10; capitals do not matter unless nothing else differs."""
    names = [*path.parts[:-1], path.stem]
    parts = [re.split(r"([0-9]+)", name.lower()) for name in names]
    counted = [[int(piece) if place % 2 else piece for place, piece in enumerate(pieces)] for pieces in parts]
    return (counted, path.parts)


def picture_files(folder: Path) -> list[Path]:
    """Return the pictures in a folder, in natural order."""
    files = (file for file in folder.iterdir() if is_ours(file.name) and file.suffix.lower() in PICTURE_ENDINGS)
    return sorted(files, key=natural_order)


def subfolders(folder: Path) -> list[Path]:
    """Return the folders right in a folder, in natural order, those behind symbolic links among them."""
    return sorted((one for one in folder.iterdir() if is_ours(one.name) and one.is_dir()), key=natural_order)


def find_videos(root: Path, is_frames: Callable[[Path], bool] = lambda folder: False) -> list[Path]:
    """Return the videos in a folder and the folders in it, in natural order: files, and folders that `is_frames`.

    Symbolic links are followed, each folder once.
    """
    return sorted(_videos(root, is_frames, set()), key=natural_order)


def _videos(folder: Path, is_frames: Callable[[Path], bool], seen: set[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    for one in folder.iterdir():
        if not is_ours(one.name):
            continue
        if not one.is_dir():
            if one.suffix.lower() in VIDEO_ENDINGS:
                yield one
        elif is_frames(one):
            yield one
        else:
            yield from _videos(one, is_frames, seen)
