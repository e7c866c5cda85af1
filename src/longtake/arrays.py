"""Names for the tensors that cross a border; jaxtyping checks their shapes in the tests and costs users nothing."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longtake.errors import NonFiniteError

Latents = Float[Tensor, "windows channels frames height width"]
"""A batch of windows of frame-wise latents. Unit variance when clean."""

LatentFrames = Float[Tensor, "channels _frames height width"]
"""One stretch of latents along time, such as FIFO's queue; several of one call may differ in length."""

Frames = Float[Tensor, "frames 3 height width"]
"""Decoded pixels in [0, 1]."""

FrameLevels = Int[Tensor, "windows frames"]
"""A noise level per frame: 0 is clean, Schedule.num_levels is pure noise."""

FrameIndex = Int[Tensor, "windows frames"]
"""A row of the prompt table for every frame; row 0 is the unconditional (negative) prompt."""


def check_finite(tensors: Mapping[str, Tensor], where: str, advice: str) -> None:
    """Raise NonFiniteError, which names the first of these tensors that is not finite everywhere.

    `where` is what they belong to, `advice` what to do.
    """
    for name, tensor in tensors.items():
        # Numbers of one byte are quantised: torch cannot compare all kinds of them.
        if tensor.is_floating_point() and tensor.dtype.itemsize > 1 and tensor.numel():
            # The extremes carry NaN along, and need no second tensor of this size.
            if not all(bool(torch.isfinite(extreme)) for extreme in tensor.detach().aminmax()):
                raise NonFiniteError(f"{where}: {name} is not finite (NaN, or infinite); {advice}")
