"""The one attention call of the package, and what may take the place of a model's own mixing of frames."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

Rotate = Callable[[Tensor, Sequence[int]], Tensor]
"""Keys (sequences, frames x tokens, heads, width) and every frame's offset from the query's frame -> rotated keys."""


def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return softmax(query key^T / sqrt(width) + bias) value; all are (sequences, tokens, heads, width).

    `bias` broadcasts against (queries, keys). Computed in float32 where a CPU is given bfloat16, whose kernel takes 1.2
    to 2.4 times as long.
    """
    kind = torch.float32 if query.device.type == "cpu" and query.dtype == torch.bfloat16 else query.dtype
    # Four axes: with three, the library falls back to a slow path.
    q, k, v = (tensor.to(kind).transpose(1, 2) for tensor in (query, key, value))
    mask = None if bias is None else bias.to(kind)
    return scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).to(query.dtype)


class FrameMixer(ABC):
    """Takes the place of a model's own mixing of frames, layer by layer, so that one video can be spread over clips.

    A model calls it, inside `TemporalHooks.mixing`, for every layer that reads more than one frame, in the order in
    which the layers run. `x` is always (windows, channels, frames, height, width).
    """

    @abstractmethod
    def attend(
        self, key: Tensor, value: Tensor, tokens: int = 1, rotate: Rotate | None = None
    ) -> Callable[[Tensor], Tensor]:
        """Take keys and values; return the function that turns queries into what attention gives.

        Between the two calls keys and values travel, so queries are best computed there. All are (sequences, frames x
        tokens, heads, width), `tokens` of every frame together. `rotate` puts rotary positions over time on keys;
        queries then carry none.
        """

    @abstractmethod
    def convolve(self, convolution: nn.Conv3d, x: Tensor) -> Tensor:
        """Return what a convolution over 3 frames gives, kernel (3, 1, 1), zeros beyond the ends."""

    @abstractmethod
    def normalise(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        """Return what a norm over channels, frames and cells gives."""

    @abstractmethod
    def block(self, block: Callable[[Tensor], Tensor], x: Tensor, reach: int) -> Tensor:
        """Return what a stack of convolutions and norms gives, of which an output sees `reach` frames to each side.

        `block` runs it on any number of frames; its own convolutions and norms come back to this object, in turn: every
        convolution takes what one norm gave, after layers that see one frame.
        """

    @abstractmethod
    def placed(self, layers: Callable[..., Tensor], *parts: Tensor) -> Tensor:
        """Return what attention gives in a network that adds an absolute position to every frame.

        `layers` adds the positions of `places` and attends, of whichever frames it is given; its attention comes back
        to this object. Each part and what comes of them are (sequences, frames, width).
        """

    @abstractmethod
    def places(self) -> Sequence[tuple[int, int]]:
        """Return the place in its clip, and the clip's length, of every frame that `layers` of `placed` is given;
        outside of it, of every frame held here."""
