"""The contract of everything that stores frames so that it can be cut back to a known place."""

from abc import ABC, abstractmethod

import numpy as np

Mark = dict[str, int]


class Writer(ABC):
    """Stores segments one after another. A mark says how far the output is valid; frames after it can be cut off."""

    @abstractmethod
    def start(self) -> Mark:
        """Create the output, or empty it, and return the mark of an output without frames."""

    @abstractmethod
    def verify(self, mark: Mark, num_frames: int, *, complete: bool) -> None:
        """Open the output, which is there, and check it up to the mark, `num_frames` frames; change nothing.

        `complete` tells a finished output. Raises CheckpointError when it is not what was written.
        """

    @abstractmethod
    def cut(self, mark: Mark) -> None:
        """Remove what follows the mark."""

    @abstractmethod
    def append(self, mark: Mark, first_frame: int, frames: np.ndarray) -> Mark:
        """Store uint8 frames (frames, height, width, 3) after the mark, where the output ends; return the new mark."""

    @abstractmethod
    def is_in_place(self) -> bool:
        """Whether the output is still where it was opened, not moved, replaced or deleted meanwhile."""

    @abstractmethod
    def close_at(self, num_frames: int) -> None:
        """Write the number of frames where the output keeps it, so that players know the length."""

    @abstractmethod
    def count(self) -> int:
        """Open the output as a player would and return how many frames are in it; 0 where it cannot be read."""

    @abstractmethod
    def sync(self) -> None:
        """Wait until everything stored so far is on the disk."""

    @abstractmethod
    def encoder(self) -> str:
        """Name and version of what encodes the frames."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the output."""
