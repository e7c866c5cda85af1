"""What a command is told of the terminal, and what becomes of its words where nobody can hear them."""

import io
import os
import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

NARROWEST = 20
"""Columns; to far fewer, help is folded without end."""


class _Unheard(io.FileIO):
    """A stream whose words are lost where it takes none: a pipe whose reader is gone, a full disk."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def settle_terminal() -> None:
    """Let words on standard output and standard error be no reason to fail: those that it cannot show have numbers in
    place of signs, a width that nothing fits in is not believed, and of progress that nobody hears nothing is said."""
    if sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):
        raw = _Unheard(sys.stderr.fileno(), "wb", closefd=False)
        sys.stderr = io.TextIOWrapper(io.BufferedWriter(raw), sys.stderr.encoding, line_buffering=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    columns = shutil.get_terminal_size().columns
    if columns < NARROWEST or os.environ.get("COLUMNS") == "0":
        os.environ["COLUMNS"] = str(max(columns, NARROWEST))
