"""Files from outside: reading one comes to an end, and may happen again.

A pipe waits for a writer that may never come and gives what it holds once; so do sockets and devices. They are refused
before they are waited for, as an OSError, so that whoever opens a file says of them what it says of any that cannot be
read.
"""

import difflib
import errno
import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from longtake.errors import InputError, OutputError

_SHOWN = 60
_LONGEST = ".state"
"""The longest that a run adds to the name of its output."""
NO_FILE = "it is a pipe or a device, not a file"


def check_file(path: str | Path) -> None:
    """Raise OSError for what is there and is neither a file nor a folder, and for what is not there."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, NO_FILE, str(path))


def check_is_file(path: Path, option: str, what: str = "one, or leave it out") -> None:
    """Raise InputError for what an option cannot take as a file; `what` it takes."""
    if path.is_file():
        return
    reason = f"{path} is a folder" if path.is_dir() else f"{path} is a pipe or a device, not a file"
    raise InputError(f"{reason if path.exists() else f'there is no file {path}'}; {option} takes {what}")


def is_name(text: str) -> bool:
    """Whether a text from outside is the name of a file or folder, and no path that leads elsewhere."""
    return Path(text).name == text and text not in ("", "..")


def refuse_missing_file(text: str) -> None:
    """Raise InputError for a folder, and for a text that is one word and looks like the name of a file, which is not
    there."""
    # Unlike Path.is_dir, this takes texts of any length.
    if os.path.isdir(text):
        raise InputError(f"{text} is a folder; give a file, or the text itself")
    if not (re.fullmatch(r"\S+", text) and re.search(r"[/\\]|\.\w{2,5}$", text)):
        return
    folder = Path(text).parent
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    nearest = difflib.get_close_matches(Path(text).name, names, n=1)
    hint = f"; did you mean {str(folder / nearest[0])!r}?" if nearest else "; give a file, or the text itself"
    raise InputError(f"there is no file {text}{hint}")


def refuse_name(path: Path) -> None:
    """Raise OutputError for an output whose name no file can have."""
    try:
        os.lstat(f"{path}{_LONGEST}")
    except ValueError:
        raise OutputError(f"cannot write {str(path)!r}: no name has such a character; choose another -o") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            shown = f"{str(path)[:_SHOWN]}..."
            raise OutputError(f"cannot write {shown}: the name is too long; choose a shorter -o") from None


def refuse_device(path: Path) -> None:
    """Raise OutputError for what is there and cannot be a file or a folder that is written."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OutputError(f"cannot write {path}: {NO_FILE}; choose another -o")


def refuse_file(folder: Path) -> None:
    """Raise OutputError for a folder to write to that is there and is none."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"cannot write to {folder}: it is a file, but a folder is meant; choose another one")


def folder_above(path: Path) -> Path:
    """Return the nearest folder above an output that is there. Raises OutputError where that is a file."""
    there = next(each for each in path.absolute().parents if each.exists())
    if not there.is_dir():
        raise OutputError(f"cannot write {path}: {there} is a file, not a folder; choose another place")
    return there


def refuse_no_place(path: Path, *, folder: bool) -> None:
    """Raise OutputError for an output, a file or a `folder`, whose own folder is not there, and as `refuse_lost_link`
    does."""
    if folder_above(path) != path.absolute().parent:
        raise OutputError(f"cannot write {path}: the folder {path.absolute().parent} does not exist; create it first")
    refuse_lost_link(path, folder=folder)


def refuse_lost_link(path: Path, *, folder: bool) -> None:
    """Raise OutputError for an output that is a link, and leads to where none can be made: a file to a folder that is
    not there, a `folder` to what is not there itself."""
    if not path.is_symlink() or path.exists():
        return
    where = Path(os.path.realpath(path))
    if where.is_symlink():
        reason = "it is a link that leads back to itself"
    elif folder:
        reason = f"it is a link to {where}, which is not there"
    elif not where.parent.is_dir():
        reason = f"it is a link into {where.parent}, which is not there"
    else:
        return
    raise OutputError(f"cannot write {path}: {reason}; remove it, or choose another place")


def refuse_unwritable(path: Path, folder: Path) -> None:
    """Raise OutputError for an output in a folder where no file can be made; it is tried, with one without a name."""
    # What may be written, os.access says, and not what can be: root may in /proc, and on a disk that is full.
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=folder):
            return
    except PermissionError:
        reason = f"no permission to write in {folder}"
    except OSError as error:
        reason = f"no file can be made in {folder} ({error.strerror}); choose another -o"
    raise OutputError(f"cannot write {path}: {reason}")


def parse_json(text: str | bytes) -> Any:
    """Return what JSON from outside says. Raises ValueError for what is none, or is nested too deep to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def read_file(path: str | Path) -> bytes:
    """Return the content of a file. Raises OSError as `check_file` and for what cannot be read."""
    check_file(path)
    return Path(path).read_bytes()
