"""Writes that survive a power cut, and plain words for those that fail."""

import errno
import os
from pathlib import Path

from longtake.errors import OutputError

UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK})
"""What file systems answer to calls that they do not have: SMB, FUSE, shared folders, Lustre, NFS."""


def reach(point: str) -> None:
    """Do nothing; a test replaces this function to kill the process between two durable steps, at `point`."""


def sync_folder(folder: Path) -> bool:
    """Make the names in a folder durable: files that were created, renamed or removed in it.

    Returns False where the file system does not offer that, as some shares do not.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return False
    finally:
        os.close(descriptor)
    return True


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte at the current place of an open file."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_durable(path: Path, data: bytes) -> None:
    """Write a file, never through a link, and wait until the disk has its content.

    Not atomic: use it for a name that nothing refers to.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_durable(path: Path, data: bytes) -> None:
    """Give `path` new content in one step: after a kill it holds the old bytes or the new ones, never a mixture."""
    temporary = path.with_name(path.name + ".new")
    write_durable(temporary, data)
    reach("record-written")
    os.replace(temporary, path)
    reach("record-renamed")
    sync_folder(path.parent)


def failed_write(error: OSError, path: Path, safe_frames: int) -> OutputError:
    """Return the error for a write that the system refused; `safe_frames` frames are on the disk and stay there."""
    safe = f"{safe_frames} frames are safe and the same command continues after them"
    if not safe_frames:
        safe = "then give the same command again"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"the disk is full while writing {path}; free some space; {safe}")
    return OutputError(f"cannot write {path}: {error.strerror or error}; {safe}")
