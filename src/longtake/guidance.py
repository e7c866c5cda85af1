"""Classifier-free guidance over one-branch calls (Ho and Salimans, 2022, eq. 6, on x0)."""

from collections.abc import Callable

import torch
from torch import Tensor

from longtake.arrays import FrameLevels
from longtake.ranks.world import ALONE, Group
from longtake.request import Guidance, GuidanceByLevel, num_branches
from longtake.schedule import Schedule


def guided(
    branch: Callable[[Tensor], Tensor], prompt_index: Tensor, scale: float | Tensor, cfg: Group = ALONE.cfg
) -> Tensor:
    """Return x0 = u + scale (c - u), c under each frame's prompt and u under row 0; one branch where scale is 1 or 0.

    `branch` returns the model's x0 for rows of the prompt table, shaped as `prompt_index`. Two processes in `cfg`
    compute a branch each. Scales in a tensor, which goes with x0, take both branches.

    At a given x, x0 is affine in epsilon and in v, for both branches alike: guiding any of them is the same.
    """
    rows, empty = prompt_index, torch.zeros_like(prompt_index)
    if not isinstance(scale, Tensor) and num_branches(scale) == 1:
        return branch(rows if scale else empty)
    if cfg.size == 1:
        conditional, unconditional = branch(rows), branch(empty)
    else:
        conditional, unconditional = cfg.gather(branch(empty if cfg.rank else rows))
    return unconditional + scale * (conditional - unconditional)


def scale_at(guidance: Guidance, levels: FrameLevels, schedule: Schedule, x: Tensor) -> float | Tensor:
    """Return the scale that holds for windows x at levels: a number, or where it depends on the level one a frame."""
    if not isinstance(guidance, GuidanceByLevel):
        return guidance
    noisy, clean = torch.tensor(guidance[:2], dtype=torch.float64)
    # In float32, as networks are told: what lies on the boundary must not fall below it by rounding.
    scale = torch.where(schedule.timestep[levels.cpu()].float() >= guidance.timestep, noisy, clean)
    return scale.to(x).reshape(len(x), 1, -1, *[1] * (x.ndim - 3))
