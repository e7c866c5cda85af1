"""The diffusion model of PVDM: a UNet over three planes (Yu et al., CVPR 2023, arXiv 2302.07685, sec. 3.2, app. B).

B batch, C channels, D those of a latent, H and W sides of a plane, P positions of one plane or of all, N tokens of a
text, E width of the embedding of a timestep, h heads.
"""

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, silu

from longtake.attention import attention
from longtake.models.pvdm.config import UnetConfig
from longtake.models.pvdm.planes import Planes, each, join, run, split

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


class PvdmUnet(nn.Module):
    """What noisy latents should be, one set of 2-D weights for all planes; goes on from a previous clip if given one.

    `recompute` keeps no activations inside steps, for training in less memory.
    """

    def __init__(self, config: UnetConfig) -> None:
        super().__init__()
        self.config, self.recompute = config, False
        width = 4 * config.channels
        self.embed = nn.Sequential(nn.Linear(config.channels, width), nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Conv2d(2 * config.latent_channels, config.channels, 3, padding=1)
        self.down, widths = _way_down(config)
        self.middle = Middle(widths[-1], config)
        self.up = _way_up(config, widths)
        self.last_norm = nn.GroupNorm(config.groups, config.channels)
        self.last = zeroed(nn.Conv2d(config.channels, config.latent_channels, 3, padding=1))

    def forward(
        self,
        latent_BDP: Tensor,
        timestep_B: Tensor,
        previous_BDP: Tensor | None = None,
        text_BNE: Tensor | None = None,
    ) -> Tensor:
        """Return the prediction (batch, channels, positions).

        `previous_BDP` is the clean latent of the clip before, None for a clip that follows nothing. `text_BNE` must be
        there exactly if the network reads text.
        """
        assert (text_BNE is None) == (self.config.text_width is None)
        previous_BDP = torch.zeros_like(latent_BDP) if previous_BDP is None else previous_BDP
        both = torch.cat([latent_BDP, previous_BDP], dim=1)
        embedding_BE = self.embed(embed_timestep(timestep_B, self.config.channels).to(latent_BDP))
        x = each(lambda plane, _: self.first(plane), split(both, self.config.grid.planes), embedding_BE)
        skips = [x]
        for stage in self.down:
            x = self._run(stage, x, embedding_BE, text_BNE)
            skips.append(x)
        x = self._run(self.middle, x, embedding_BE, text_BNE)
        for stage in self.up:
            s, h, w = (torch.cat([plane, skip], dim=1) for plane, skip in zip(x, skips.pop(), strict=True))
            x = self._run(stage, (s, h, w), embedding_BE, text_BNE)
        return join(each(lambda plane, _: self.last(silu(self.last_norm(plane))), x, embedding_BE))

    def _run(self, stage: nn.Module, x: Planes, embedding_BE: Tensor, text_BNE: Tensor | None) -> Planes:
        return run(stage, x, embedding_BE, text_BNE, recompute=self.recompute)


def _way_down(config: UnetConfig) -> tuple[nn.ModuleList, list[int]]:
    """Return the steps from the full planes to the smallest, and the channels after the first layer and each step."""
    stages, widths = nn.ModuleList(), [config.channels]
    for level, multiplier in enumerate(config.multipliers):
        width = config.channels * multiplier
        for _ in range(config.blocks):
            stages.append(Stage(widths[-1], width, config, config.attention[level]))
            widths.append(width)
        if level < len(config.multipliers) - 1:
            stages.append(Stage(width, width, config, attends=False, scale=HALVE))
            widths.append(width)
    return stages, widths


def _way_up(config: UnetConfig, widths: list[int]) -> nn.ModuleList:
    """Return the steps back to the full planes, each of which also takes what a step of the way down left."""
    stages, width = nn.ModuleList(), widths[-1]
    for level, multiplier in reversed(list(enumerate(config.multipliers))):
        for number in range(config.blocks + 1):
            scale = DOUBLE if level and number == config.blocks else 1.0
            entering = width + widths[len(widths) - 1 - len(stages)]
            width = config.channels * multiplier
            stages.append(Stage(entering, width, config, config.attention[level], scale))
    return stages
