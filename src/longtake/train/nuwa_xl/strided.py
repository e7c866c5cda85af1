"""`sprites-strided`: the video UNet of `sprites-fast` learns how far apart its frames lie, and fills NUWA-XL's tree.

It is told of frames per second, as VideoCrafter2's is: neighbours at stride s come FPS / s times a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor

from longtake.data.sprites import FPS
from longtake.train.fit.levels import Clean, LevelMixture, Timesteps, sample_levels
from longtake.train.nuwa_xl.data import SpriteStretches
from longtake.train.sprites.cache import Drawn, LatentClips
from longtake.train.sprites.unet import DenoiserSettings, GuidedTask

_SHOWN_AT_A_STRIDE = 2


@dataclass(frozen=True, kw_only=True)
class StridedSettings(DenoiserSettings):
    """Batches and loss at all strides."""

    stride_shares: tuple[float, ...]
    """How often clips have each of the far strides, from coarse to fine, and last stride 1."""
    far_levels: LevelMixture = field(default_factory=LevelMixture)
    """Noise levels of clips at far strides."""


class StridedClips:
    """Clips at stride 1 from one source, and at far strides from another."""

    def __init__(self, near: LatentClips, far: SpriteStretches, shares: tuple[float, ...]) -> None:
        """`shares` as in the settings. Both sources have one table of captions."""
        self.near, self.far, self.shares = near, far, torch.tensor(shares)
        self.table, self.empty, self.latents = near.table, near.empty, near.latents

    def draw(self, num_clips: int, num_frames: int, drop_text: float, generator: Generator) -> Drawn:
        """Return random clips, those at far strides first."""
        places = torch.multinomial(self.shares, num_clips, replacement=True, generator=generator).tolist()
        levels = sorted(place for place in places if place < len(self.far.strides))
        num_near = num_clips - len(levels)
        far = [self.far.draw(levels, num_frames, generator)] if levels else []
        near = [self.near.draw(num_near, num_frames, drop_text, generator)] if num_near else []
        return together(far + near)


class StridedTask(GuidedTask):
    """Clips at all strides, known ends and all: see `GuidedTask` for what is learnt beside them."""

    clips: Any
    settings: Any

    def predict(self, x: Tensor, told: Timesteps, texts: Tensor, stride: Tensor) -> Tensor:
        """Return v; the network is told of frames per second."""
        rate = self.network.fps_embedding(self.network.time_proj(FPS / stride))
        return self.said(self.network, x, told, texts, rate.repeat_interleave(told.shape[1], dim=0))

    def guided(self, x: Tensor, told: Timesteps, clean: Clean, drawn: Drawn) -> Tensor:
        """See `GuidedTask`; nothing between known ends at stride 1, where guidance moves more than there is to move."""
        between = (clean[:, 0] & clean[:, -1] & (drawn.stride == 1))[:, None, None, None, None]
        return super().guided(x, told, clean, drawn) * ~between

    def draw_levels(self, levels: LevelMixture, drawn: Drawn, generator: Generator) -> tuple[Timesteps, Clean]:
        """Return levels by stride."""
        num_frames, num_near = drawn.latents.shape[2], int((drawn.stride == 1).sum())
        kinds = ((self.settings.far_levels, len(drawn.stride) - num_near), (levels, num_near))
        parts = [sample_levels(kind, count, num_frames, generator) for kind, count in kinds if count]
        return torch.cat([timesteps for timesteps, _ in parts]), torch.cat([clean for _, clean in parts])

    def to_show(self) -> tuple[Drawn, Clean]:
        """Return clips from nothing at the coarsest stride, between known ends at the next, and from nothing at 1."""
        generator, num_frames = torch.Generator().manual_seed(1), self.settings.num_frames
        far = self.clips.far
        rows = [level for level in range(len(far.strides)) for _ in range(_SHOWN_AT_A_STRIDE)]
        near = self.clips.near.draw(_SHOWN_AT_A_STRIDE, num_frames, 0.0, generator)
        parts = far.draw(rows, num_frames, generator), near
        shown = together(parts)
        clean = torch.zeros(shown.texts.shape[:2], dtype=torch.bool)
        clean[_SHOWN_AT_A_STRIDE:-_SHOWN_AT_A_STRIDE, [0, -1]] = True
        return shown, clean


def together(parts: Sequence[Drawn]) -> Drawn:
    """Return clips of several sources in a row."""
    return Drawn(**{name: torch.cat([vars(part)[name] for part in parts]) for name in vars(parts[0])})
