"""An exponential moving average of a network's parameters."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """Averages the parameters of a module, updated every few steps to cost next to nothing."""

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
