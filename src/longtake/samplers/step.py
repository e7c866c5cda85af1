"""One step of ordinary sampling, all frames of a window at one level, and noise that belongs to frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.arrays import FrameIndex, LatentFrames
from longtake.guidance import guided
from longtake.model import Condition, Continuation, Infill, PerFrameNoise, VideoModel
from longtake.noise import Noise
from longtake.ranks.world import Group
from longtake.samplers.anchors import Known
from longtake.schedule import Clip, Schedule, extrapolated, step


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """Windows whose frames all have one level, and what a step of theirs needs."""

    model: VideoModel
    schedule: Schedule
    condition: Condition
    prompts: FrameIndex
    guidance: float
    cfg: Group
    """Who computes which branch of guidance."""
    eta: float
    clip: Clip | None = None
    """How x0 is bounded; None leaves it to the model's spec."""
    previous: Tensor | None = None
    """Clean latents that the windows follow, one a window; None where they follow nothing."""
    between: tuple[Tensor, Tensor] | None = None
    """Clean latents of the first and of the last frame of the windows (windows, channels, height, width), where these
    are known."""
    known: Known | None = None
    """Frames anywhere in the windows that are given, in windows that are free otherwise."""

    def stepped(self, x: Tensor, level: int, z: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return windows x one level below `level`, and their x0; z is the step's noise, needed exactly if eta > 0.

        A step of DDIM (Song et al., 2020, eq. 12).
        """
        x0, at = self._clean(x, level), torch.tensor(level)
        clip = self.clip or ("x0" if self.model.spec.bounded else None)
        return step(x, x0, self.schedule.now(at), self.schedule.next(at), self.eta, z, clip), x0

    def second_order(self, x: Tensor, level: int, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return windows x one level below `level`, and their x0; `before` is what the step before returned as x0, None
        at the first, which is DDIM's.

        A step of DPM-Solver++(2M) (Lu et al., 2022, arXiv 2211.01095), without fresh noise.
        """
        x0, at = self._clean(x, level), torch.tensor(level)
        if self.model.spec.bounded:
            x0 = x0.clamp(-1, 1)
        now, next = self.schedule.now(at), self.schedule.next(at)
        aim = x0 if before is None else extrapolated(x0, before, self.schedule.now(at + 1), now, next)
        return step(x, aim, now, next), x0

    def _clean(self, x: Tensor, level: int) -> Tensor:
        """Return x0 of windows x, guided."""
        is_free = self.previous is None and self.between is None
        is_per_frame = is_free and isinstance(self.model, PerFrameNoise)
        levels = torch.full(self.prompts.shape if is_per_frame else self.prompts.shape[:1], level, device=x.device)

        shown = x
        if self.known:
            shown, levels = self.known.shown(x, levels)

        def branch(rows: Tensor) -> Tensor:
            if is_free:
                return self.model.denoise(shown, levels, self.schedule, self.condition, rows)
            if self.between is not None:
                assert isinstance(self.model, Infill)
                return self.model.denoise_between(x, levels, self.schedule, self.condition, rows, *self.between)
            assert self.previous is not None and isinstance(self.model, Continuation)
            return self.model.denoise_after(x, levels, self.schedule, self.condition, rows, self.previous)

        x0 = guided(branch, self.prompts, self.guidance, self.cfg)
        return self.known.kept(x0) if self.known else x0


def frame_noise(
    noise: Noise, latent_shape: tuple[int, ...], frames: Sequence[int], stream: str, *key: int
) -> LatentFrames:
    """Return the noise of these frames of the video, each drawn by its number, whatever window it is in.

    `latent_shape` is (channels, frames, height, width); a draw is named `stream`, the frame, then `key`.
    """
    channels, _, height, width = latent_shape
    return torch.stack([noise((channels, height, width), stream, frame, *key) for frame in frames], dim=1)
