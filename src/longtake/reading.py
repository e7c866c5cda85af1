"""Files from outside: reading one comes to an end, and may happen again.

A pipe waits for a writer that may never come and gives what it holds once; so do sockets and devices. They are refused
before they are waited for, as an OSError, so that whoever opens a file says of them what it says of any that cannot be
read.
"""

import errno
import os
import stat
from pathlib import Path

NO_FILE = "it is a pipe or a device, not a file"


def check_file(path: str | Path) -> None:
    """Raise OSError for what is there and is neither a file nor a folder, and for what is not there."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, NO_FILE, str(path))


def read_file(path: str | Path) -> bytes:
    """Return the content of a file. Raises OSError as `check_file` and for what cannot be read."""
    check_file(path)
    return Path(path).read_bytes()
