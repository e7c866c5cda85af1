"""When training has to stop. Imports no torch."""

import signal
import time
from typing import Self


class Limit:
    """Says when to stop: at a time, or when a signal asks for it. Signals are heard inside `with`."""

    def __init__(self, minutes: float | None = None, within: "Limit | None" = None) -> None:
        """Count from now; what stops `within` stops this, too."""
        self._began, self._seconds, self._within = time.monotonic(), None if minutes is None else 60 * minutes, within
        self.signal: int | None = None

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: object) -> None:
        self.signal = number

    def __call__(self, step: int) -> bool:
        """Whether to end before this step."""
        return self.signal is not None or self.share() > 1 or (self._within is not None and self._within(step))

    def after_one(self, number: int) -> bool:
        """Whether to end before this file of what a later stage needs: for want of time not before the first."""
        return self(number) if number else self.signal is not None or (self._within is not None and self._within(0))

    def signalled(self, number: int = 0) -> bool:
        """Whether a signal asks for the end, before this of what is counted; the time does not."""
        return self.signal is not None or (self._within is not None and self._within.signalled())

    @property
    def ends(self) -> bool:
        """Return whether there is an end to the time."""
        return self._seconds is not None

    def share(self) -> float:
        """Return the share of the time that has passed, 0 where there is no end to it; above 1 where there is none."""
        return 0.0 if self._seconds is None else self.seconds() / max(self._seconds, 1e-9)

    def seconds(self) -> float:
        """Return the time that has passed."""
        return time.monotonic() - self._began


ENDLESS = Limit()
