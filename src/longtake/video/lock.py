"""One writer at a time."""

import fcntl
import os
from pathlib import Path

from longtake.errors import OutputError


class Lock:
    """Holds a lock file until closed. The system drops it when the process dies, so a stale one is no obstacle.

    Raises OutputError naming the process that holds it.
    """

    def __init__(self, file: Path, output: Path) -> None:
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            raise OutputError(
                f"another longtake (process {holder}) is writing {output}; wait for it, or give another -o"
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let another writer in."""
        os.close(self._descriptor)
