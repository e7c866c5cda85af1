"""Writes that survive a power cut, by one writer at a time, and plain words for those that fail."""

import errno
import os
import platform
import sys
from pathlib import Path

from longtake.errors import OutputError

UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK})
"""What file systems answer to calls that they do not have: SMB, FUSE, shared folders, Lustre, NFS."""


def reach(point: str) -> None:
    """Do nothing; a test replaces this function to kill the process between two durable steps, at `point`."""


def open_file(path: Path, flags: int) -> int:
    """Open a file for reading and writing, made where there is none, byte for byte on every system."""
    # Windows takes line feeds for ends of lines unless it is told.
    return os.open(path, os.O_RDWR | flags | getattr(os, "O_BINARY", 0), 0o666)


def open_own(path: Path, flags: int) -> int:
    """Open a file that is ours as `open_file` does, never through a link; Windows makes none without being told."""
    return open_file(path, os.O_CREAT | flags | getattr(os, "O_NOFOLLOW", 0))


def read_at(descriptor: int, count: int, place: int) -> bytes:
    """Return bytes of an open file from a place on."""
    os.lseek(descriptor, place, os.SEEK_SET)
    return os.read(descriptor, count)


def write_at(descriptor: int, data: bytes, place: int) -> None:
    """Write every byte at a place of an open file."""
    os.lseek(descriptor, place, os.SEEK_SET)
    write_all(descriptor, data)


def sync_folder(folder: Path) -> bool:
    """Make the names in a folder durable: files that were created, renamed or removed in it.

    Returns False where the system does not offer that, as Windows and some shares do not.
    """
    if sys.platform == "win32":
        return False
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


def sync_tree(folder: Path) -> None:
    """Wait until the disk has all files of a folder, and of those in it, with their names."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        else:
            descriptor = open_file(path, 0)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte at the current place of an open file."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_durable(path: Path, data: bytes) -> None:
    """Write a file, never through a link, and wait until the disk has its content.

    Not atomic: use it for a name that nothing refers to.
    """
    descriptor = open_own(path, os.O_TRUNC)
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
        safe = "the same command begins again"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"the disk is full while writing {path}; free some space; {safe}")
    where = f" ({error.filename})" if error.filename else ""
    advice = "move that folder away" if error.errno == errno.EISDIR else "mend that, or give another -o"
    return OutputError(f"cannot write {path}: {error.strerror or error}{where}; {advice}; {safe}")


class Lock:
    """Holds a lock file until closed. The system drops it when the process dies, so a stale one is no obstacle.

    Where the file system knows no locks, the file says which process of which machine writes. Raises OutputError naming
    the process that holds it, and for a link in its place; `other` is what to give in place of the output.
    """

    def __init__(self, file: Path, output: Path, other: str = "another -o") -> None:
        self._other = other
        self.warning: str | None = None
        """What the user should know: that another writer may go unnoticed."""
        try:
            self._descriptor = open_own(file, 0)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise OutputError(f"cannot write {output}: {file} is a link, and not longtake's; remove it") from None
        try:
            self._take(file, output)
        except BaseException:
            os.close(self._descriptor)
            raise
        os.ftruncate(self._descriptor, 0)
        write_at(self._descriptor, f"{os.getpid()} {platform.node()}\n".encode(), 0)

    def close(self) -> None:
        """Let another writer in."""
        if self.warning:
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    def _take(self, file: Path, output: Path) -> None:
        # Every command comes by here, and few of them write.
        from filelock import lock_descriptor

        try:
            if not lock_descriptor(self._descriptor, blocking=False):
                raise self._held(output, "wait for it")
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            if self._is_alive():
                raise self._held(output, f"wait for it, or delete {file} if that is no longtake") from None
            self.warning = f"the file system of {output} knows no locks: a writer on another machine goes unnoticed"

    def _holder(self) -> list[str]:
        """Process and machine that the file names."""
        try:
            return read_at(self._descriptor, 300, 0).decode(errors="replace").split()
        except PermissionError:
            # Windows lets nobody read what another process has locked.
            return []

    def _held(self, output: Path, advice: str) -> OutputError:
        number, *machine = self._holder() or ["unknown"]
        where = f" on {machine[0]}" if machine and machine[0] != platform.node() else ""
        return OutputError(
            f"another longtake (process {number}{where}) is writing {output}; {advice}, or give {self._other}"
        )

    def _is_alive(self) -> bool:
        """Whether the file names a process that runs on this machine."""
        match self._holder():
            case [number, machine] if machine == platform.node() and number.isdecimal():
                if sys.platform == "win32":
                    # There this question would end the process.
                    return True
                try:
                    os.kill(int(number), 0)
                except (ProcessLookupError, OverflowError):
                    return False
                except PermissionError:
                    return True
                return True
        return False
