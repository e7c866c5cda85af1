"""One writer at a time."""

import errno
import fcntl
import os
import platform
from pathlib import Path

from longtake.errors import OutputError
from longtake.video.durable import UNSUPPORTED


class Lock:
    """Holds a lock file until closed. The system drops it when the process dies, so a stale one is no obstacle.

    Where the file system knows no locks, the file says which process of which machine writes. Raises OutputError naming
    the process that holds it, and for a link in its place.
    """

    def __init__(self, file: Path, output: Path) -> None:
        self.warning: str | None = None
        """What the user should know: that another writer may go unnoticed."""
        try:
            self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
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
        os.pwrite(self._descriptor, f"{os.getpid()} {platform.node()}\n".encode(), 0)

    def close(self) -> None:
        """Let another writer in."""
        if self.warning:
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    def _take(self, file: Path, output: Path) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._held(output, "wait for it") from None
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            if self._is_alive():
                raise self._held(output, f"wait for it, or delete {file} if that is no longtake") from None
            self.warning = f"the file system of {output} knows no locks: a writer on another machine goes unnoticed"

    def _holder(self) -> list[str]:
        """Process and machine that the file names."""
        return os.pread(self._descriptor, 300, 0).decode(errors="replace").split()

    def _held(self, output: Path, advice: str) -> OutputError:
        number, *machine = self._holder() or ["unknown"]
        where = f" on {machine[0]}" if machine and machine[0] != platform.node() else ""
        return OutputError(
            f"another longtake (process {number}{where}) is writing {output}; {advice}, or give another -o"
        )

    def _is_alive(self) -> bool:
        """Whether the file names a process that runs on this machine."""
        match self._holder():
            case [number, machine] if machine == platform.node() and number.isdecimal():
                try:
                    os.kill(int(number), 0)
                except (ProcessLookupError, OverflowError):
                    return False
                except PermissionError:
                    return True
                return True
        return False
