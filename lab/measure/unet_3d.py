"""What PVDM's UNet is compared with: a network of the same blocks over every frame, as video diffusion models have it.

Ho et al., *Video Diffusion Models*, 2022, arXiv 2204.03458, sec. 3: convolutions and attention within each frame, and
attention over time. It serves as a measure of cost and is never trained.

B batch, C channels, T frames, H and W sides of a frame, F = B T, S = B H W.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from longtake.models.pvdm.config import UnetConfig
from longtake.models.pvdm.unet import DOUBLE, HALVE, PositionAttention, ResBlock, embed_timestep, zeroed


@dataclass(frozen=True, kw_only=True)
class Unet3dConfig:
    """What the network is made of."""

    blocks: UnetConfig
    """Widths, levels and attention within a frame, by the same names as those of PVDM's; its grid has no effect."""
    over_time: tuple[bool, ...]
    """Whether a level has attention over time."""
    channels: int
    """Of the video that goes in and comes out."""
    entering: int
    """Of what goes in: more than `channels` where something else is shown beside."""


class FrameStage(nn.Module):
    """A step: residual block, attention within each frame, attention over time, change of size."""

    def __init__(self, channels: int, out_channels: int, config: Unet3dConfig, level: int, scale: float = 1.0) -> None:
        """`scale` halves the frames in the residual block itself, or doubles them in one more at the end."""
        super().__init__()
        attends, shrinks = config.blocks.attention[level], scale == HALVE
        self.block = ResBlock(channels, out_channels, config.blocks, min(scale, 1.0))
        self.space = PositionAttention(out_channels, config.blocks) if attends and not shrinks else None
        self.enlarge = ResBlock(out_channels, out_channels, config.blocks, DOUBLE) if scale == DOUBLE else None
        self.time = PositionAttention(out_channels, config.blocks) if config.over_time[level] else None

    def forward(self, x_FCHW: Tensor, embedding_FE: Tensor, frames: int) -> Tensor:
        """Return the frames of `out_channels` channels."""
        x_FCHW = self.block(x_FCHW, embedding_FE)
        if self.space:
            x_FCHW = self.space(x_FCHW.flatten(2)).unflatten(2, x_FCHW.shape[2:])
        if self.enlarge:
            x_FCHW = self.enlarge(x_FCHW, embedding_FE)
        return _over_time(self.time, x_FCHW, frames) if self.time else x_FCHW


class Unet3d(nn.Module):
    """A UNet over videos (batch, channels, frames, height, width); the number of frames is kept at every level."""

    def __init__(self, config: Unet3dConfig) -> None:
        super().__init__()
        blocks = config.blocks
        self.config, width = config, 4 * blocks.channels
        self.embed = nn.Sequential(nn.Linear(blocks.channels, width), nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Conv2d(config.entering, blocks.channels, 3, padding=1)
        self.down, self.up = _ways(config)
        bottom = blocks.channels * blocks.multipliers[-1]
        self.middle_in, self.middle_out = ResBlock(bottom, bottom, blocks), ResBlock(bottom, bottom, blocks)
        self.middle_space, self.middle_time = PositionAttention(bottom, blocks), PositionAttention(bottom, blocks)
        self.last_norm = nn.GroupNorm(blocks.groups, blocks.channels)
        self.last = zeroed(nn.Conv2d(blocks.channels, config.channels, 3, padding=1))

    def forward(self, x_BCTHW: Tensor, timestep_B: Tensor) -> Tensor:
        """Return the prediction, of the shape of the video."""
        frames = x_BCTHW.shape[2]
        embedding_BE = self.embed(embed_timestep(timestep_B, self.config.blocks.channels).to(x_BCTHW))
        embedding_FE = embedding_BE.repeat_interleave(frames, dim=0)
        x = self.first(x_BCTHW.transpose(1, 2).flatten(0, 1))
        skips = [x]
        for stage in self.down:
            x = stage(x, embedding_FE, frames)
            skips.append(x)
        x = self.middle_in(x, embedding_FE)
        x = self.middle_space(x.flatten(2)).unflatten(2, x.shape[2:])
        x = self.middle_out(_over_time(self.middle_time, x, frames), embedding_FE)
        for stage in self.up:
            x = stage(torch.cat([x, skips.pop()], dim=1), embedding_FE, frames)
        x = self.last(silu(self.last_norm(x)))
        return x.unflatten(0, (-1, frames)).transpose(1, 2)


def _over_time(attention: PositionAttention, x_FCHW: Tensor, frames: int) -> Tensor:
    """Attend over the frames at each place."""
    x_BTCHW = x_FCHW.unflatten(0, (-1, frames))
    x_SCT = x_BTCHW.permute(0, 3, 4, 2, 1).flatten(0, 2)
    x_BHWCT = attention(x_SCT).unflatten(0, (len(x_BTCHW), *x_FCHW.shape[2:]))
    return x_BHWCT.permute(0, 4, 3, 1, 2).flatten(0, 1)


def _ways(config: Unet3dConfig) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Return the steps down and up; they stand as in PVDM's UNet."""
    blocks, down, up = config.blocks, nn.ModuleList(), nn.ModuleList()
    widths = [blocks.channels]
    for level, multiplier in enumerate(blocks.multipliers):
        width = blocks.channels * multiplier
        for _ in range(blocks.blocks):
            down.append(FrameStage(widths[-1], width, config, level))
            widths.append(width)
        if level < len(blocks.multipliers) - 1:
            down.append(FrameStage(width, width, config, level, HALVE))
            widths.append(width)
    width = widths[-1]
    for level, multiplier in reversed(list(enumerate(blocks.multipliers))):
        for number in range(blocks.blocks + 1):
            entering, width = width + widths.pop(), blocks.channels * multiplier
            up.append(FrameStage(entering, width, config, level, DOUBLE if level and number == blocks.blocks else 1.0))
    return down, up
