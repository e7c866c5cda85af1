"""Layers over time that leave every frame exactly as it is until they are trained.

B clips, L frames, C channels, H x W cells, S sequences; h heads. Frames come as an image network has them, a clip's
frames one after the other along the first axis.
"""

from math import pi

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from longtake.attention import attention


class TimeConvolution(nn.Module):
    """A convolution over 3 frames, zeros beyond the ends; its kernel starts as the identity (section 3.1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # In two dimensions, frames x cells: half the time of one in three on a CPU.
        self.kernel = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        nn.init.dirac_(self.kernel.weight)
        nn.init.zeros_(self.kernel.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x_FCHW: Tensor, num_frames: int) -> Tensor:
        """Return the frames of clips of `num_frames`, each with something of its neighbours."""
        x_BCLS = x_FCHW.unflatten(0, (-1, num_frames)).transpose(1, 2).flatten(3)
        return self.kernel(x_BCLS).transpose(1, 2).flatten(0, 1).unflatten(-1, x_FCHW.shape[-2:])


class TimeAttention(nn.Module):
    """Attention among the frames of a cell with learned positions, and an MLP where `mlp`; both start at zero."""

    def __init__(self, channels: int, heads: int, frames: int, mlp: bool) -> None:
        super().__init__()
        self.heads = heads
        self.positions = nn.Parameter(_waves(frames, channels))
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.out = _zero(nn.Linear(channels, channels))
        self.mlp = None
        if mlp:
            expand, contract = nn.Linear(channels, 2 * channels), _zero(nn.Linear(2 * channels, channels))
            self.mlp = nn.ModuleDict({"norm": nn.LayerNorm(channels), "expand": expand, "contract": contract})

    def forward(self, x_FCHW: Tensor, num_frames: int) -> Tensor:
        """Return the frames of clips of `num_frames`, each after it has looked at all."""
        x_BLCS = x_FCHW.unflatten(0, (-1, num_frames)).flatten(3)
        tokens_SLC = x_BLCS.permute(0, 3, 1, 2).flatten(0, 1)
        seen_SLC = self.norm(tokens_SLC) + self.positions[:num_frames]
        query, key, value = self.qkv(seen_SLC).unflatten(-1, (3, self.heads, -1)).unbind(2)
        tokens_SLC = tokens_SLC + self.out(attention(query, key, value).flatten(2))
        if self.mlp:
            hidden = gelu(self.mlp["expand"](self.mlp["norm"](tokens_SLC)))
            tokens_SLC = tokens_SLC + self.mlp["contract"](hidden)
        x_FCS = tokens_SLC.unflatten(0, (-1, x_BLCS.shape[-1])).permute(0, 2, 3, 1).flatten(0, 1)
        return x_FCS.unflatten(-1, x_FCHW.shape[-2:])


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _waves(frames: int, channels: int) -> Tensor:
    """Return where positions start: half sines, half cosines, from one turn per clip to one in two frames."""
    place = torch.arange(frames) / frames
    turns = torch.logspace(0, 1, -(-channels // 2), base=frames / 2)
    angle = 2 * pi * place[:, None] * turns
    return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :channels]
