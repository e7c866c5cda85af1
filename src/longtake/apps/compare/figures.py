"""Tables of figures: the mean of a column, its spread over seeds, what is out of order, and what is best beyond the
spread."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from longtake.metrics.metric import Bound
from longtake.metrics.of_video import OfVideo

_MOST_ENTRIES = 8
Found = tuple[str, int | None, Mapping[str, float]]
"""Of a video: its column, its seed, and its numbers by the names that people read."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A figure of a column."""

    values: int
    """How many videos have it."""
    mean: float
    spread: float | None
    """The standard deviation of the means of single seeds; None for a single seed."""
    bound: Bound | None
    """What is in order, where this is not."""
    best: bool = False

    def text(self, sign: str) -> str:
        """Return mean and spread, `sign` between them."""
        mean = f"{self.mean:.0f}" if self.mean == round(self.mean) and abs(self.mean) < 1e6 else f"{self.mean:.3g}"
        # What is below four digits is rounding.
        return mean if self.spread is None else f"{mean} {sign} {round(self.spread, 4):.2g}"


def figure_rows(metric: OfVideo, labels: Sequence[str], found: Sequence[Found]) -> list[tuple[str, list[Cell | None]]]:
    """Return a row for every figure: its name, and a cell for each of the columns `labels`, None where it has none.

    Of a figure with more than eight entries, such as the delays of a long story, there is no row for each.
    """
    names = dict.fromkeys(name for _, _, numbers in found for name in numbers)
    for spoken in metric.spoken.values():
        begin, _, end = spoken.partition("{}")
        entries = [name for name in names if name.startswith(begin) and name.endswith(end) and name != begin + end]
        if len(entries) > _MOST_ENTRIES:
            names = {name: None for name in names if name not in entries}
    return [(name, _row(metric, name, labels, found)) for name in names]


def _row(metric: OfVideo, name: str, labels: Sequence[str], found: Sequence[Found]) -> list[Cell | None]:
    cells, key = [], name.replace(" ", "_")
    for label in labels:
        by_seed: dict[int | None, list[float]] = {}
        for of, seed, numbers in found:
            if of == label and name in numbers:
                by_seed.setdefault(seed, []).append(numbers[name])
        cells.append(_cell(list(by_seed.values()), metric.bounds.get(key)) if by_seed else None)
    best = _best(cells, metric.ideals.get(key))
    return [cell and replace(cell, best=number == best) for number, cell in enumerate(cells)]


def _cell(by_seed: Sequence[Sequence[float]], bound: Bound | None) -> Cell:
    values = [value for seed in by_seed for value in seed]
    mean = fmean(values)
    return Cell(
        values=len(values),
        mean=mean,
        spread=stdev(map(fmean, by_seed)) if len(by_seed) > 1 else None,
        bound=None if bound is None or bound.holds(mean) else bound,
    )


def _best(cells: Sequence[Cell | None], ideal: float | None) -> int | None:
    """Return which cell is nearest to the ideal, if it is so whatever the seeds scatter: mean and spread overlap none
    of the others.

    None where the figure has no ideal or no spread, is out of order or missing somewhere, or is of other videos in one
    column than in another.
    """
    there = [cell for cell in cells if cell is not None]
    if ideal is None or len(there) < max(2, len(cells)) or len({cell.values for cell in there}) > 1:
        return None
    distances = [_distance(cell.mean, ideal) for cell in there]
    number = min(range(len(there)), key=distances.__getitem__)
    first = there[number]
    if first.bound is not None or first.spread is None:
        return None
    for cell in (cell for other, cell in enumerate(there) if other != number):
        if cell.spread is None or abs(cell.mean - first.mean) <= cell.spread + first.spread:
            return None
    return number


def _distance(value: float, ideal: float) -> float:
    return (-value if ideal > 0 else value) if math.isinf(ideal) else abs(value - ideal)
