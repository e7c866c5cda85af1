"""The slow twin of every mixer of frames, for transformers that attend over the tokens of all frames at once."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from longtake.attention import FrameMixer, Rotate, attention


class PlainMixer(FrameMixer):
    """Every frame attends to all frames, each turned by its own offset: slow, and what any other mixer must equal."""

    def __init__(self) -> None:
        self.layers = 0

    def attend(
        self, key: Tensor, value: Tensor, tokens: int = 1, rotate: Rotate | None = None
    ) -> Callable[[Tensor], Tensor]:
        assert rotate is not None
        frames = range(key.shape[1] // tokens)
        self.layers += 1

        def answer(query: Tensor) -> Tensor:
            parts = query.unflatten(1, (-1, tokens)).unbind(1)
            return torch.cat(
                [attention(part, rotate(key, [k - q for k in frames]), value) for q, part in enumerate(parts)], dim=1
            )

        return answer

    def convolve(self, *_: Any) -> Any:
        raise AssertionError("these transformers mix frames by attention only, at relative positions")

    normalise = block = placed = places = convolve
