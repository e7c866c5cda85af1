"""Classifier-free guidance over one-branch calls (Ho and Salimans, 2022, eq. 6, on x0)."""

from collections.abc import Callable

import torch
from torch import Tensor

from longtake.ranks.world import ALONE, Group
from longtake.request import num_branches


def guided(branch: Callable[[Tensor], Tensor], prompt_index: Tensor, scale: float, cfg: Group = ALONE.cfg) -> Tensor:
    """Return x0 = u + scale (c - u), c under each frame's prompt and u under row 0; one branch where scale is 1 or 0.

    `branch` returns the model's x0 for rows of the prompt table, shaped as `prompt_index`. Two processes in `cfg`
    compute a branch each.

    At a given x, x0 is affine in epsilon and in v with the same coefficients for both branches: guiding any of them is
    the same.
    """
    rows, empty = prompt_index, torch.zeros_like(prompt_index)
    if num_branches(scale) == 1:
        return branch(rows if scale else empty)
    if cfg.size == 1:
        conditional, unconditional = branch(rows), branch(empty)
    else:
        conditional, unconditional = cfg.gather(branch(empty if cfg.rank else rows))
    return unconditional + scale * (conditional - unconditional)
