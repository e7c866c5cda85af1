"""Names for the tensors that cross a border; jaxtyping checks their shapes in the tests and costs users nothing."""

from jaxtyping import Float, Int
from torch import Tensor

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
