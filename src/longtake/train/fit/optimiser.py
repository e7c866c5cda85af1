"""What a step changes: an optimiser with the networks that it trains, one side of a training run, and the average of
their weights."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import AdamW

from longtake.train.fit.task import Learning, Loss, Scalars

Mean = Callable[[Tensor], Tensor]
"""The mean of a tensor over all processes."""


class Optimiser:
    """Trainable parameters with an optimiser; its gradients are averaged over parts and processes."""

    def __init__(self, groups: Sequence[nn.Module], learning: Learning, device: torch.device, scaled: bool) -> None:
        """`groups` are the networks whose gradients are limited each by itself; `scaled` for half precision."""
        self._groups = [list(group.parameters()) for group in groups]
        self._trained = [one for group in self._groups for one in group if one.requires_grad]
        self._learning = learning
        self.adam = AdamW(self._trained, lr=0.0, weight_decay=learning.weight_decay, betas=learning.betas, fused=True)
        self.scaler = GradScaler(device.type, enabled=scaled)

    def take_part(self, learns: bool) -> None:
        """Let gradients flow to the parameters, or past them only."""
        for parameter in self._trained:
            parameter.requires_grad_(learns)

    def add_gradients(self, loss: Tensor, share: float) -> None:
        """Compute the gradients of a loss, times `share`, and add them to those that are there."""
        self.scaler.scale(loss * share).backward()

    def step(self, rate: float, mean: Mean | None) -> None:
        """Change the weights by the gradients, averaged by `mean` over the processes, and forget these."""
        if mean is not None:
            self._average(mean)
        self.scaler.unscale_(self.adam)
        if self._learning.max_gradient is not None:
            for group in self._groups:
                nn.utils.clip_grad_norm_(group, self._learning.max_gradient)
        for settings in self.adam.param_groups:
            settings["lr"] = rate
        self.scaler.step(self.adam)
        self.scaler.update()
        self.adam.zero_grad()

    def load(self, optimizer: dict[str, Any], scale: dict[str, Any]) -> None:
        """Take over a saved state."""
        self.adam.load_state_dict(optimizer)
        self.scaler.load_state_dict(scale)

    def _average(self, mean: Mean) -> None:
        """One message for all: a process may have no gradient where another one has."""
        sizes = [parameter.numel() for parameter in self._trained]
        flat = torch.cat([_gradient(parameter).flatten() for parameter in self._trained])
        for parameter, part in zip(self._trained, mean(flat).split(sizes), strict=True):
            parameter.grad = part.view_as(parameter).clone()


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Who learns in a step, and from what."""

    optimiser: Optimiser
    loss: Loss
    others: tuple[Optimiser, ...] = ()
    """Who takes part without learning."""

    def run(self, generator: torch.Generator, share: float, precision: torch.autocast) -> tuple[Tensor, Scalars]:
        """Add the gradients of one batch; returns its loss and further figures."""
        for other in self.others:
            other.take_part(learns=False)
        self.optimiser.take_part(learns=True)
        with precision:
            loss, scalars = self.loss(generator)
        self.optimiser.add_gradients(loss, share)
        return loss.detach(), scalars


class Ema:
    """Exponential moving average of the parameters of a module, updated every few steps to cost next to nothing."""

    def __init__(self, module: nn.Module, decay: float, every: int) -> None:
        """Start from the current weights; `decay` is per step, `every` the number of steps between updates."""
        self._parameters = list(module.parameters())
        self._names = [name for name, _ in module.named_parameters()]
        self._decay = decay
        self._every = every
        self.average = [parameter.detach().clone() for parameter in self._parameters]

    def update(self, step: int) -> None:
        """Take the weights after `step` steps into the average; the first steps forget faster."""
        if step % self._every:
            return
        decay = min(self._decay, (1 + step) / (10 + step)) ** self._every
        torch._foreach_lerp_(self.average, [parameter.detach() for parameter in self._parameters], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module holds the average inside this context, its own weights again after it."""
        own = [parameter.detach().clone() for parameter in self._parameters]
        self._fill(self.average)
        try:
            yield
        finally:
            self._fill(own)

    def state_dict(self) -> dict[str, Tensor]:
        """Parameter name -> average."""
        return dict(zip(self._names, self.average, strict=True))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over a saved average."""
        for name, average in zip(self._names, self.average, strict=True):
            average.copy_(state[name])

    @torch.no_grad()
    def _fill(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
