"""The blocks of PVDM's UNet (Yu et al., 2023, app. B).

B batch, C channels, H and W sides of a plane, P positions of one plane or of all, N tokens of a text, E width of the
embedding of a timestep, h heads.
"""

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, silu

from longtake.attention import attention
from longtake.models.pvdm.config import UnetConfig
from longtake.models.pvdm.planes import Planes, each, join, split

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)
HALVE, DOUBLE = 0.5, 2.0
"""Changes of a plane's sides."""


def embed_timestep(timestep_B: Tensor, width: int) -> Tensor:
    """Return cosines and sines of timesteps, (batch, width), with periods from 2 pi to 20,000 pi."""
    half = width // 2
    frequency = torch.exp(torch.arange(half, device=timestep_B.device) * (-math.log(10000) / half))
    angle = timestep_B[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class ResBlock(nn.Module):
    """Two convolutions of a plane, scaled and shifted by the timestep; may halve or double its sides."""

    def __init__(self, channels: int, out_channels: int, config: UnetConfig, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.norm_in = nn.GroupNorm(config.groups, channels)
        self.conv_in = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.embed = nn.Linear(4 * config.channels, 2 * out_channels)
        self.norm_out = nn.GroupNorm(config.groups, out_channels)
        self.conv_out = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x_BCHW: Tensor, embedding_BE: Tensor) -> Tensor:
        """Return the plane of `out_channels` channels."""
        hidden = self.conv_in(self._resize(silu(self.norm_in(x_BCHW))))
        factor, shift = self.embed(silu(embedding_BE))[..., None, None].chunk(2, dim=1)
        hidden = self.conv_out(silu(self.norm_out(hidden) * (1 + factor) + shift))
        return self.skip(self._resize(x_BCHW)) + hidden

    def _resize(self, x_BCHW: Tensor) -> Tensor:
        if self.scale == HALVE:
            return avg_pool2d(x_BCHW, 2)
        return interpolate(x_BCHW, scale_factor=self.scale) if self.scale == DOUBLE else x_BCHW


class PositionAttention(nn.Module):
    """Attention among positions, which carry no mark of where they lie, with normalisation and residual."""

    def __init__(self, channels: int, config: UnetConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.GroupNorm(config.groups, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x_BCP: Tensor) -> Tensor:
        """Return the positions, each after it has looked at all."""
        # Tokens first: heads that lie across the channels of a convolution take attention's slow path.
        projected = self.qkv(self.norm(x_BCP).transpose(1, 2))
        query, key, value = projected.unflatten(2, (self.heads, 3, -1)).unbind(3)
        return x_BCP + self.out(attention(query, key, value).flatten(2)).transpose(1, 2)


class TextAttention(nn.Module):
    """Attention of positions to the tokens of a text, with normalisation and residual."""

    def __init__(self, channels: int, config: UnetConfig, text_width: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.GroupNorm(config.groups, channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(text_width, 2 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x_BCP: Tensor, text_BNE: Tensor) -> Tensor:
        """Return the positions, each after it has looked at the text."""
        query = self.query(self.norm(x_BCP).transpose(1, 2)).unflatten(2, (self.heads, -1))
        key, value = self.key_value(text_BNE).unflatten(2, (2, self.heads, -1)).unbind(2)
        return x_BCP + self.out(attention(query, key, value).flatten(2)).transpose(1, 2)


class JointAttention(nn.Module):
    """What ties the planes together: attention over all their positions, and over a text where there is one."""

    def __init__(self, channels: int, config: UnetConfig) -> None:
        super().__init__()
        self.positions = PositionAttention(channels, config)
        self.text = TextAttention(channels, config, config.text_width) if config.text_width else None

    def forward(self, planes: Planes, text_BNE: Tensor | None) -> Planes:
        """Return the planes, mixed."""
        s, h, w = (tuple(plane.shape[2:]) for plane in planes)
        x_BCP = self.positions(join(planes))
        if self.text:
            x_BCP = self.text(x_BCP, text_BNE)
        return split(x_BCP, (s, h, w))


class Stage(nn.Module):
    """A step of the UNet: residual block, attention within each plane, change of size, attention over all planes."""

    def __init__(self, channels: int, out_channels: int, config: UnetConfig, attends: bool, scale: float = 1.0) -> None:
        """`scale` halves the planes in the residual block itself, or doubles them in one more after the attention."""
        super().__init__()
        self.block = ResBlock(channels, out_channels, config, min(scale, 1.0))
        self.attention = PositionAttention(out_channels, config) if attends else None
        self.enlarge = ResBlock(out_channels, out_channels, config, DOUBLE) if scale == DOUBLE else None
        self.joint = JointAttention(out_channels, config)

    def forward(self, planes: Planes, embedding_BE: Tensor, text_BNE: Tensor | None) -> Planes:
        """Return the planes of `out_channels` channels."""
        return self.joint(each(self._plane, planes, embedding_BE), text_BNE)

    def _plane(self, x_BCHW: Tensor, embedding_BE: Tensor) -> Tensor:
        x_BCHW = self.block(x_BCHW, embedding_BE)
        if self.attention:
            x_BCHW = self.attention(x_BCHW.flatten(2)).unflatten(2, x_BCHW.shape[2:])
        return self.enlarge(x_BCHW, embedding_BE) if self.enlarge else x_BCHW


class Middle(nn.Module):
    """The step at the bottom: two residual blocks around attention, then attention over all planes."""

    def __init__(self, channels: int, config: UnetConfig) -> None:
        super().__init__()
        self.first = ResBlock(channels, channels, config)
        self.attention = PositionAttention(channels, config)
        self.second = ResBlock(channels, channels, config)
        self.joint = JointAttention(channels, config)

    def forward(self, planes: Planes, embedding_BE: Tensor, text_BNE: Tensor | None) -> Planes:
        """Return the planes, mixed."""
        return self.joint(each(self._plane, planes, embedding_BE), text_BNE)

    def _plane(self, x_BCHW: Tensor, embedding_BE: Tensor) -> Tensor:
        x_BCHW = self.first(x_BCHW, embedding_BE)
        x_BCHW = self.attention(x_BCHW.flatten(2)).unflatten(2, x_BCHW.shape[2:])
        return self.second(x_BCHW, embedding_BE)


def zeroed(layer: Layer) -> Layer:
    """Return the layer with weights of zero, so that a new network starts as if its block were not there."""
    for weights in layer.parameters():
        nn.init.zeros_(weights)
    return layer
