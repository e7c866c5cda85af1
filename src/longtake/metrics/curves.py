"""A figure over the length of a video, in memory that does not grow with it."""

from typing import Any

MOST_POINTS = 128
"""A curve has at most as many points, and at least half as many where there are frames for them."""


class Curve:
    """Means over equal parts of the length, as long as they need to be: a number, or an array, of every frame."""

    def __init__(self) -> None:
        self._sums: list[Any] = []
        self._size, self._last = 1, 0

    def add(self, value: Any) -> None:
        """Take the number of the next frame."""
        if self._last == self._size or not self._sums:
            self._halve()
            self._sums.append(0.0)
            self._last = 0
        self._sums[-1] = self._sums[-1] + value
        self._last += 1

    def _halve(self) -> None:
        if len(self._sums) == MOST_POINTS:
            self._sums = [one + other for one, other in zip(self._sums[::2], self._sums[1::2], strict=True)]
            self._size *= 2

    @property
    def values(self) -> list[Any]:
        """Return the mean of every part, in order; the last part may be shorter."""
        counts = [self._size] * (len(self._sums) - 1) + [self._last]
        return [total / count for total, count in zip(self._sums, counts, strict=False)]
