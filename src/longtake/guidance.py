"""Classifier-free guidance over one-branch calls (Ho and Salimans, 2022, eq. 6, on x0)."""

import torch
from torch import Tensor

from longtake.model import Condition, VideoModel
from longtake.schedule import Schedule


def guided(
    model: VideoModel,
    x: Tensor,
    level: Tensor,
    schedule: Schedule,
    condition: Condition,
    prompt_index: Tensor,
    scale: float,
) -> Tensor:
    """Return x0 = u + scale (c - u), c under each frame's prompt and u under row 0; one branch where scale is 1 or 0.

    At a given x, x0 is affine in epsilon and in v with the same coefficients for both branches: guiding any of them is
    the same.
    """
    if scale == 0:
        return model.denoise(x, level, schedule, condition, torch.zeros_like(prompt_index))
    conditional = model.denoise(x, level, schedule, condition, prompt_index)
    if scale == 1:
        return conditional
    unconditional = model.denoise(x, level, schedule, condition, torch.zeros_like(prompt_index))
    return unconditional + scale * (conditional - unconditional)


def num_branches(scale: float) -> int:
    """Return how many network evaluations `guided` spends on a window."""
    return 1 if scale in (0, 1) else 2
