"""Index arithmetic of windows over a line of frames, shared by the samplers."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Frames `start` to `stop` go through the network together; only `keep_start` to `keep_stop` are written back."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    @property
    def kept(self) -> range:
        """Return the frames that are written back."""
        return range(self.keep_start, self.keep_stop)


def partition_windows(f: int, partitions: int, first: int = 0) -> list[Window]:
    """Return windows of f frames, end to end from `first`, that keep everything."""
    starts = [first + k * f for k in range(partitions)]
    return [Window(start, start + f, start, start + f) for start in starts]


def lookahead_windows(f: int, partitions: int) -> list[Window]:
    """Return two windows per partition that keep their noisier part only and read the cleaner part (FIFO-Diffusion,
    sec. 4.3).

    Windows begin at 0, h, f, f + h, ... with h = f // 2. The kept parts tile frames h to h + f * partitions, for odd f
    too.
    """
    h = f // 2
    windows = []
    for r in range(2 * partitions):
        start = (r // 2) * f + (r % 2) * h
        keep = f - h if r % 2 == 0 else h
        windows.append(Window(start, start + f, start + f - keep, start + f))
    return windows


def reach(windows: Sequence[Window], stop: int) -> int:
    """Return how many leading windows write a frame before `stop`; they come in order."""
    return bisect_left(windows, stop, key=lambda window: window.keep_start)
