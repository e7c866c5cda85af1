"""How the files of a run are called, beside its output and in it."""

import re
from pathlib import Path

FRAME_FILE = re.compile(r"\d{6,}\.png")
RECORD_FILE = "state.json"


def state_folder(path: str | Path) -> Path:
    """Return the folder beside the output that holds what a killed run continues from."""
    return Path(f"{Path(path)}.state")


def frame_file(folder: Path, frame: int) -> Path:
    """Return the path of one frame in a folder of PNG files."""
    return folder / f"{frame:06d}.png"
