"""Ctrl-C and SIGTERM end a run in good order."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
if sys.platform != "win32":
    _SIGNALS[signal.SIGHUP] = "a closed terminal"


class StoppedError(BaseException):
    """A signal has asked for the end. Not an Exception, so that no handler of ordinary errors swallows it."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"stopped by {_SIGNALS[number]}")
        self.status = 128 + number
        """Exit status by which shells know the signal."""


class Stop:
    """Remembers that the end was asked for."""

    def __init__(self) -> None:
        self._asked: signal.Signals | None = None

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: raise StoppedError, but only once: a second one would disturb the closing of the file."""
        if self._asked is None:
            self._asked = signal.Signals(number)
            raise StoppedError(self._asked)

    def check(self) -> None:
        """Raise StoppedError if a signal came at a moment when Python could not raise it (in a callback of C code)."""
        if self._asked is not None:
            raise StoppedError(self._asked)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Turn signals into StoppedError inside the block. What is ignored, as under nohup, stays ignored."""
    stop = Stop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop.ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
