"""The layers of PVDM's autoencoder: transformers over time, over space and along one axis of the grid.

B batch, S sequences, N tokens, T frames, P patches of a frame, C channels, h heads, D channels of a head.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu
from torch.utils.checkpoint import checkpoint

from longtake.attention import attention
from longtake.models.pvdm.config import AutoencoderConfig
from longtake.models.pvdm.rotary import Rotation

HEAD_WIDTH = 64
"""Channels of a head of attention over time and space, whatever the width of a token."""


def run(layer: Callable[..., Any], *inputs: Any, recompute: bool) -> Any:
    """Run a layer; with `recompute` its activations are computed again for the gradient rather than kept."""
    return checkpoint(layer, *inputs, use_reentrant=False) if recompute else layer(*inputs)


class SelfAttention(nn.Module):
    """Attention among the tokens of a sequence, with its normalisation before and the residual."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width)

    def forward(self, x_SNC: Tensor, rotation: Rotation | None = None, read: slice = slice(None)) -> Tensor:
        """Return the tokens `read`, each after it has looked at all."""
        query, key, value = self.qkv(self.norm(x_SNC)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        if rotation:
            query, key = rotation(query), rotation(key)
        return x_SNC[:, read] + self.out(attention(query[:, read], key, value).flatten(2))


class Mlp(nn.Module):
    """Two linear layers, with the normalisation before and the residual; `gated` (Shazeer, 2020, arXiv 2002.05202)."""

    def __init__(self, width: int, hidden: int, gated: bool) -> None:
        super().__init__()
        self.gated = gated
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, hidden * (2 if gated else 1))
        self.contract = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return every token, changed by itself."""
        hidden = self.expand(self.norm(x))
        if self.gated:
            hidden, gate = hidden.chunk(2, dim=-1)
            return x + self.contract(hidden * gelu(gate))
        return x + self.contract(gelu(hidden))


class SpaceTimeLayer(nn.Module):
    """Attention over time at each place, then over space in each frame, then a gated MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.time = SelfAttention(width, heads, HEAD_WIDTH)
        self.space = SelfAttention(width, heads, HEAD_WIDTH)
        self.mlp = Mlp(width, 4 * width, gated=True)

    def forward(self, x_BTPC: Tensor, over_time: Rotation, over_space: Rotation) -> Tensor:
        """Return the tokens of a clip, mixed."""
        batch, frames, patches, _ = x_BTPC.shape
        x_STC = self.time(x_BTPC.transpose(1, 2).flatten(0, 1), over_time)
        x_SPC = x_STC.unflatten(0, (batch, patches)).transpose(1, 2).flatten(0, 1)
        return self.mlp(self.space(x_SPC, over_space)).unflatten(0, (batch, frames))


class PoolLayer(nn.Module):
    """A plain transformer layer over one axis of the grid."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads, width // 8)
        self.mlp = Mlp(width, hidden, gated=False)

    def forward(self, x_SNC: Tensor, read: slice = slice(None)) -> Tensor:
        """Return the tokens `read`."""
        return self.mlp(self.attention(x_SNC, read=read))


class Pool(nn.Module):
    """Folds one axis of the grid into a single cell: a plane, its channels in (-1, 1)."""

    def __init__(self, length: int, config: AutoencoderConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.pool_hidden
        self.read = slice(0, 1) if config.compat else slice(length, length + 1)
        # Small beside the tokens of the grid, so that a plane begins as nearly their mean.
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, length + 1, width))
        self.layers = nn.ModuleList(PoolLayer(width, config.pool_heads, hidden) for _ in range(config.pool_depth))
        self.to_plane = nn.Linear(width, config.latent_channels)

    def forward(self, x_SNC: Tensor, recompute: bool) -> Tensor:
        """Return one cell of the plane for every sequence, (sequences, channels of a latent)."""
        x_SNC = torch.cat([x_SNC, self.token.expand(len(x_SNC), -1, -1)], dim=1) + self.positions
        for layer in self.layers[:-1]:
            x_SNC = run(layer, x_SNC, recompute=recompute)
        # Of the last layer one token is read: the others need no query.
        return self.to_plane(run(self.layers[-1], x_SNC, self.read, recompute=recompute)[:, 0]).tanh()
