"""Infill and continuation from per-frame noise: known frames are put into the window at level 0, which is clean.

Right for a network that was trained with clean frames among noisy ones; one adapter for all of them.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from longtake.arrays import FrameIndex, Latents
from longtake.model import Condition, Continuation, Infill, Known, PerFrameNoise
from longtake.schedule import Schedule


class CleanFrames(PerFrameNoise, Infill, Continuation):
    """A model that infills and continues by `denoise` alone. Its spec says whether it was trained for that."""

    def denoise_between(
        self,
        x: Latents,
        level: Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
        known: Known,
    ) -> Latents:
        """Return x0 of windows of which some frames are known."""
        x, levels, places = x.clone(), level[:, None].repeat(1, x.shape[2]), list(known.places)
        x[:, :, places], levels[:, places] = known.latents.to(x), 0
        return self.denoise(x, levels, schedule, condition, prompt_index)

    def denoise_after(
        self,
        x: Latents,
        level: Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
        known: Known,
    ) -> Latents:
        """Return x0 of the frames x that follow known ones; both together fill the network's window."""
        num_known = known.latents.shape[2]
        levels = level[:, None].repeat(1, num_known + x.shape[2])
        levels[:, :num_known] = 0
        prompts = torch.cat([prompt_index[:, :1].repeat(1, num_known), prompt_index], dim=1)
        x0 = self.denoise(torch.cat([known.latents, x], dim=2), levels, schedule, condition, prompts)
        return x0[:, :, num_known:]
