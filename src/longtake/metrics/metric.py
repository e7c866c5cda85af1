"""What a metric is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from longtake.typed import Typed


class Bound(NamedTuple):
    """Between which numbers a figure is in order, both included; None for no limit."""

    least: float | None
    most: float | None
    source: str
    """Where the numbers come from."""

    def __str__(self) -> str:
        limits = (("at least", self.least), ("at most", self.most))
        return " and ".join(f"{word} {value:g}" for word, value in limits if value is not None)

    def holds(self, value: float) -> bool:
        """Return whether a figure is in order."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


class Metric(Typed, ABC):
    """A way to score videos. Implementations are frozen keyword-only dataclasses: their fields are the options."""

    spoken: ClassVar[Mapping[str, str]] = {}
    """How people read the entries of a figure that has several by name: a text with {} for the name."""
    bounds: ClassVar[Mapping[str, Bound]] = {}
    """Of figures by name, what is in order; what lies outside is flagged."""
    ideals: ClassVar[Mapping[str, float]] = {}
    """Of figures by name, what is best: a number, or infinity for as much (minus infinity: as little) as can be. Not of
    those that say how little a video changes, in which a still picture would be best."""

    @classmethod
    def flags(cls, figures: Mapping[str, Any]) -> list[str]:
        """Return the names of the figures that are out of order."""
        known = {name: bound for name, bound in cls.bounds.items() if figures.get(name) is not None}
        return [name for name, bound in known.items() if not bound.holds(figures[name])]

    @abstractmethod
    def measure(self) -> dict[str, Any]:
        """Return the figures by name, as JSON has them; a sequence is a curve over the length of the videos.

        Under "curves", of others by name, what belongs to a picture rather than to a table; under "labels", of figures
        by name, what they cannot be compared with, and after a colon why; under "flags" those that are out of order;
        under "warnings" what their reader should know. Raises InputError, before anything is loaded where it can be
        told then, for options that clash and for videos that cannot be measured.
        """
