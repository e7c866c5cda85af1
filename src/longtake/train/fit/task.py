"""What one training run has to bring: a network, a loss as a function of the step, pictures, and a way to save.

Below, what several of them share: attention on a CPU, precision, and pictures laid out.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import interpolate

from longtake.train.fit.settings import Precision

_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}

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
class Learning:
    """How an optimiser learns."""

    betas: tuple[float, float]
    """AdamW's."""
    weight_decay: float
    """AdamW's."""
    max_gradient: float | None
    """Norm that the gradients of each group are scaled down to."""


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
    learning: Learning = Learning(betas=(0.5, 0.9), weight_decay=0.01, max_gradient=1.0)
    """How the discriminators' optimiser learns."""


def cpu_attention(device: torch.device, recomputes: bool = False) -> AbstractContextManager[object]:
    """Take plain attention on a CPU, where the backward pass of the fused one costs a quarter to half of a step.

    A network that computes activations again for the gradient, outside this context, must do it in the same way.
    """
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" and not recomputes else nullcontext()


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Let networks compute in this precision."""
    return torch.autocast(device.type, _HALVES.get(precision), enabled=precision in _HALVES)


def sheet(rows: Float[Tensor, "rows columns 3 height width"]) -> Float[Tensor, "3 sheet_height sheet_width"]:
    """Return pictures in [0, 1] as one, twice as large."""
    grid = rows.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    return interpolate(grid[None], scale_factor=2)[0].clamp(0, 1)


def above(
    pictures: Float[Tensor, "rows columns 3 height width"], others: Float[Tensor, "rows columns 3 height width"]
) -> Float[Tensor, "pairs columns 3 height width"]:
    """Return rows in turn of both."""
    return torch.stack([pictures, others], dim=1).flatten(0, 1)
