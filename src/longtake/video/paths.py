"""Where a video may be written: checked before any work, without torch or av."""

import os
import re
from pathlib import Path

from longtake.errors import OutputError
from longtake.video.files import is_ours
from longtake.video.formats import BY_ENDING, FORMATS, Format

FRAME_FILE = re.compile(r"\d{6,}\.png")
RECORD_FILE = "state.json"


def state_folder(path: str | Path) -> Path:
    """Return the folder beside the output that holds what a killed run continues from."""
    return Path(f"{Path(path)}.state")


def output_format(path: str | Path) -> Format:
    """Tell by its ending in which format a path is written.

    A path that ends with a slash, has no ending, or is a folder already means PNG files. Raises OutputError for another
    ending.
    """
    text, path = str(path), Path(path)
    ending = path.suffix.lower()
    if text.endswith(("/", os.sep)) or (path.is_dir() and ending not in BY_ENDING):
        return BY_ENDING[""]
    if ending in BY_ENDING:
        return BY_ENDING[ending]
    *others, last = (one.example(path.with_suffix("")) for one in FORMATS.values())
    raise OutputError(f"cannot write {path}: unknown ending {ending!r}; use {', '.join(others)} or {last}")


def check_output(path: str | Path, *, overwrite: bool = False) -> Format:
    """Return in which format a video would be written at `path`, or raise before any work is done. Touches nothing.

    Raises OutputError for: an unknown ending, a path without a name (".", ".."), a missing or unwritable parent,
    a folder where a file is meant and the other way round, a file or folder that belongs to no longtake run (a file is
    fine with `overwrite`, a folder that holds anything but numbered PNG files never is).
    """
    format, path = output_format(path), Path(path)
    if path.name in ("", ".."):
        # The state, the report and the subtitles lie beside the output under its name.
        raise OutputError(f"cannot write to {path}: this path has no name of its own; write the folder's name")
    _check_parent(path)
    if format.ending:
        _check_file(path, overwrite=overwrite)
    else:
        _check_folder(path, overwrite=overwrite)
    state = state_folder(path)
    if state.exists() and not state.is_dir():
        raise OutputError(f"cannot write {path}: {state} is a file, but it must be a folder; move it away")
    if state.is_dir() and not os.access(state, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: no permission to write in {state}")
    return format


def frame_file(folder: Path, frame: int) -> Path:
    """Return the path of one frame in a folder of PNG files."""
    return folder / f"{frame:06d}.png"


def _check_parent(path: Path) -> None:
    parent = path.absolute().parent
    if not parent.exists():
        raise OutputError(f"cannot write {path}: the folder {parent} does not exist; create it first")
    if not parent.is_dir():
        raise OutputError(f"cannot write {path}: {parent} is a file, not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: no permission to write in {parent}")


def _check_file(path: Path, *, overwrite: bool) -> None:
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder, but its ending means a file; choose another name")
    if not path.exists():
        return
    if not os.access(path, os.W_OK):
        raise OutputError(f"cannot write {path}: no permission to change this file")
    if not overwrite and not (state_folder(path) / RECORD_FILE).exists():
        raise OutputError(f"{path} exists and belongs to no longtake run; choose another name, or --overwrite it")


def _check_folder(path: Path, *, overwrite: bool) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise OutputError(f"cannot write PNG files to {path}: it is a file, but its name means a folder")
    if not os.access(path, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: no permission to write in this folder")
    names = [entry.name for entry in path.iterdir() if is_ours(entry.name)]
    foreign = next((name for name in names if not FRAME_FILE.fullmatch(name)), None)
    if foreign is not None:
        raise OutputError(
            f"cannot write PNG files to {path}: it holds other files ({foreign}); move them away, or use another folder"
        )
    if names and not overwrite and not (state_folder(path) / RECORD_FILE).exists():
        raise OutputError(f"{path} holds frames of no longtake run; choose another folder, or --overwrite them")
