"""How much frames look like earlier ones, and how soon they follow the story: by rows of features, one a frame.

Everything is the cosine of two rows, whatever network made them; memory is that of the longest lag.
"""

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longtake.metrics.consistency import Curve

Rows = NDArray[np.float32]
LAGS: tuple[int, ...] = (1, 4, 16, 64, 256, 1024, 4096)
"""Frames over which frames are compared."""
START = 8
"""Frames at the start whose mean is what the others are compared with."""


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """Cosines of the features of frames: 1 is the same picture."""

    num_frames: int
    start: float | None
    """Mean similarity to the mean of the first 8 frames, of the frames of the first prompt; None of a single frame, as
    is the next."""
    end: float | None
    """The same of the last of them: an eighth, one at least."""
    lags: dict[int, float]
    """Frames apart -> mean similarity of two frames of one prompt so far apart."""
    curves: dict[str, list[float]]
    """Similarity to the start over the whole length, later prompts included."""


def similarity(rows: Iterable[Rows], cuts: Collection[int] = ()) -> Similarity:
    """Compare the frames of a video, given as rows of features (n, numbers); `cuts` are the frames at which the story
    asks for something else."""
    borders, first, past = sorted(cuts), _Start(min(cuts, default=None)), deque[Rows](maxlen=max(LAGS))
    sums, counts = dict.fromkeys(LAGS, 0.0), dict.fromkeys(LAGS, 0)
    since = num_frames = 0
    for row in (row for batch in rows for row in _directions(batch)):
        if borders and num_frames == borders[0]:
            since = borders.pop(0)
        for lag in (lag for lag in LAGS if lag <= num_frames - since):
            sums[lag] += float(past[-lag] @ row)
            counts[lag] += 1
        past.append(row)
        first.add(row)
        num_frames += 1
    assert num_frames > 0, "no frames"
    start, end, curve = first.figures()
    return Similarity(
        num_frames=num_frames,
        start=start if num_frames > 1 else None,
        end=end if num_frames > 1 else None,
        lags={lag: sums[lag] / count for lag, count in counts.items() if count},
        curves={"similarity to the start": curve},
    )


class _Start:
    """Similarity to the start, over the length."""

    def __init__(self, stop: int | None) -> None:
        self._held: list[Rows] = []
        self._begin: Rows = np.empty(0, np.float32)
        self._whole, self._told, self._stop, self._seen = Curve(), Curve(), stop, 0

    def add(self, row: Rows) -> None:
        self._held.append(row)
        if len(self._begin) or len(self._held) == START:
            self._compare()

    def _compare(self) -> None:
        if not len(self._begin):
            self._begin = _directions(np.mean(self._held, axis=0)[None])[0]
        for row in self._held:
            value = float(self._begin @ row)
            self._whole.add(value)
            if self._stop is None or self._seen < self._stop:
                self._told.add(value)
            self._seen += 1
        self._held = []

    def figures(self) -> tuple[float, float, list[float]]:
        if self._held:
            self._compare()
        told = self._told.values
        return float(np.mean(told)), float(np.mean(told[-max(len(told) // 8, 1) :])), self._whole.values


def delays(rows: Iterable[Rows], cuts: Sequence[int]) -> dict[int, int | None]:
    """Return for every change of the story that is reached after how many frames the video looks more like what comes
    than like what was; None where it does not come to look otherwise.

    `rows` are features of all frames, (n, numbers). What was is the mean of the second half of the frames before the
    change, back to the one before; what comes is that of the second half of those after it, up to the next. These two
    look otherwise where they are farther apart than twice the spread of the frames behind them.
    """
    seen = _directions(np.concatenate(list(rows)))
    reached = [0, *(cut for cut in cuts if cut < len(seen)), len(seen)]
    return {
        now: _delay(seen[before:now], seen[now:after])
        for before, now, after in zip(reached, reached[1:], reached[2:], strict=False)
    }


def _delay(before: Rows, after: Rows) -> int | None:
    was, comes = (rows[len(rows) // 2 :] for rows in (before, after))
    # Any two sets of frames differ along the line through their means: half of them draws it, the other half is asked.
    ends = [rows[::2].mean(0) for rows in (was, comes)]
    middle, along = (ends[0] + ends[1]) / 2, ends[1] - ends[0]
    places = [(rows[len(rows) > 1 :: 2] - middle) @ along for rows in (was, comes)]
    if places[1].mean() - places[0].mean() <= 2 * np.concatenate([each - each.mean() for each in places]).std():
        return None
    closer = (after - middle) @ along > 0
    return int(np.argmax(closer)) if closer.any() else None


def _directions(rows: Rows) -> Rows:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
