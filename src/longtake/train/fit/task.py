"""What one training run has to bring: a network, a loss as a function of the step, pictures, and a way to save."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Generator, Tensor, nn

Scalars = dict[str, float]
"""Name -> number, written to TensorBoard beside the loss."""
Loss = Callable[[Generator], tuple[Tensor, Scalars]]
"""Randomness of a batch -> its loss, and further figures."""


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


@dataclass(frozen=True, kw_only=True)
class AdversarialPhase:
    """Discriminators that learn to beat the task's network, in turns with it: a step of the task, a step of theirs."""

    module: nn.Module
    """What learns; the gradients of each of its children are limited by themselves."""
    loss: Loss
    """What they learn from."""
    task_loss: Loss
    """The task's loss once they take part, in place of `Task.loss`."""
    start: int
    """The first step that they take part in; until then they are not run."""
    learning_rate: float = 1e-4
    """Constant."""
    betas: tuple[float, float] = (0.5, 0.9)
    """How long their AdamW remembers gradients and their squares."""
    weight_decay: float = 0.01
    """Their AdamW's weight decay."""
    max_gradient: float = 1.0
    """The gradients of each child are scaled down to this norm."""
