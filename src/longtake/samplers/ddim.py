"""One step of ordinary sampling, all frames of a window at one level, and noise that belongs to frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.arrays import FrameIndex, LatentFrames
from longtake.guidance import guided
from longtake.model import Condition, PerFrameNoise, VideoModel
from longtake.noise import Noise
from longtake.schedule import Clip, Schedule, step
from longtake.world import Group


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """Windows whose frames all have one level, and what a step of theirs needs (DDIM, Song et al., 2020, eq. 12)."""

    model: VideoModel
    schedule: Schedule
    condition: Condition
    prompts: FrameIndex
    guidance: float
    cfg: Group
    """Who computes which branch of guidance."""
    eta: float
    clip: Clip | None = None

    def stepped(self, x: Tensor, level: int, z: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return windows x one level below `level`, and their x0; z is the step's noise, needed exactly if eta > 0."""
        shape = self.prompts.shape if isinstance(self.model, PerFrameNoise) else self.prompts.shape[:1]
        levels = torch.full(shape, level, device=x.device)
        x0 = guided(self.model, x, levels, self.schedule, self.condition, self.prompts, self.guidance, self.cfg)
        at = torch.tensor(level)
        return step(x, x0, self.schedule.now(at), self.schedule.next(at), self.eta, z, self.clip), x0


def frame_noise(
    noise: Noise, latent_shape: tuple[int, ...], frames: Sequence[int], stream: str, *key: int
) -> LatentFrames:
    """Return the noise of these frames of the video, each drawn by its number, whatever window it is in.

    `latent_shape` is (channels, frames, height, width); a draw is named `stream`, the frame, then `key`.
    """
    channels, _, height, width = latent_shape
    return torch.stack([noise((channels, height, width), stream, frame, *key) for frame in frames], dim=1)
