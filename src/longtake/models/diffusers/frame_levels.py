"""A timestep per frame for UNet3DConditionModel, which takes one per clip; gradients pass, so training uses it too."""

from collections.abc import Iterator
from contextlib import contextmanager

from diffusers import UNet3DConditionModel
from jaxtyping import Int
from torch import Tensor

from longtake.models.diffusers.hooks import GivenEmbedding, swapped


@contextmanager
def frame_timesteps(unet: UNet3DConditionModel, timestep: Int[Tensor, "clips frames"]) -> Iterator[None]:
    """Tell the network the timestep of every frame while the context lasts, whatever timestep it is called with."""
    projected = unet.time_proj(timestep.flatten()).to(unet.dtype)
    with swapped(unet, "time_embedding", GivenEmbedding(unet.time_embedding(projected))):
        yield
