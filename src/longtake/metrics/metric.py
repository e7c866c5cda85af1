"""What a metric is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar


class Metric(ABC):
    """A way to score videos. Implementations are frozen keyword-only dataclasses: their fields are the options."""

    spoken: ClassVar[Mapping[str, str]] = {}
    """How people read the entries of a figure that has several by name: a text with {} for the name."""

    @abstractmethod
    def measure(self) -> dict[str, Any]:
        """Return the figures by name, as JSON has them; a sequence is a curve over the length of the videos.

        Under "labels", of figures by name, what they cannot be compared with, and after a colon why; under "warnings"
        what their reader should know. Raises InputError, before anything is loaded where it can be told then, for
        options that clash and for videos that cannot be measured.
        """
