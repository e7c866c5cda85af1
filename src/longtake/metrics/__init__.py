"""Metrics: what one is, and all of them by name. Imports nothing heavy, so that options are read before anything loads.

To add one: a dataclass whose fields are its options, and its row here.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


class Metric(ABC):
    """A way to score videos. Implementations are frozen keyword-only dataclasses: their fields are the options."""

    labelled: ClassVar[frozenset[str]] = frozenset()
    """Figures that nobody may read without the label."""
    spoken: ClassVar[Mapping[str, str]] = {}
    """How people read the entries of a figure that has several by name: a text with {} for the name."""

    @abstractmethod
    def measure(self) -> dict[str, Any]:
        """Return the figures by name, as JSON has them; a sequence is a curve over the length of the videos.

        Under "label", what the figures cannot be compared with, and after a colon why; under "warnings" what their
        reader should know. Raises InputError, before anything is loaded where it can be told then, for options that
        clash and for videos that cannot be measured.
        """


@dataclass(frozen=True)
class Row:
    """A metric of the table."""

    kind: str
    """module:class of a `Metric`."""
    summary: str
    """What it says, in a few words."""


METRICS: dict[str, Row] = {
    "prompts": Row("longtake.metrics.of_video:Prompts", "score a video: does it show the prompts?"),
    "drift": Row("longtake.metrics.of_video:Drift", "score a video: does it change as it goes on?"),
    "state": Row("longtake.metrics.of_video:State", "score sprite worlds: shapes, identity, steps"),
    "fvd": Row("longtake.metrics.of_sets:Fvd", "score a folder of videos against real ones"),
    "blocks": Row("longtake.metrics.of_sets:Blocks", "the same, part by part of long videos"),
}
