"""What one training run has to bring: a network, a loss as a function of the step, pictures, and a way to save."""

from abc import ABC, abstractmethod
from pathlib import Path

from jaxtyping import Float
from torch import Generator, Tensor, nn

Scalars = dict[str, float]
"""Name -> number, written to TensorBoard beside the loss."""


class Task(ABC):
    """One training run as `fit` sees it. All randomness comes from the generator that is passed in."""

    @abstractmethod
    def module(self) -> nn.Module:
        """The network whose parameters are trained, averaged and saved."""

    @abstractmethod
    def loss(self, generator: Generator) -> tuple[Float[Tensor, ""], Scalars]:
        """The loss of one random batch, and further figures.

        The generator is seeded by the step, so that a resumed run sees the same data in the same order.
        """

    @abstractmethod
    def sample(self) -> Float[Tensor, "3 height width"]:
        """A grid of pictures in [0, 1] from the current weights, the same prompts and noise every time."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the network with its current weights as a folder that the next stage loads."""
