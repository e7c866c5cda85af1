"""The image autoencoder of models whose latents go frame by frame (AutoencoderKL)."""

from typing import Any

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor

from longtake.arrays import LatentFrames

PIXELS_AT_ONCE = 2**17
"""Pixels that the decoder is given in one call: 32 frames of 64 x 64, 2 of 256 x 256."""

# Pixels and latents differ in size here, so `arrays.Frames` and `arrays.LatentFrames` cannot stand in one signature.
Pixels = Float[Tensor, "frames 3 pixel_height pixel_width"]


def decode_frames(autoencoder: AutoencoderKL, latents: LatentFrames) -> Pixels:
    """Decode every frame by itself, a few at a time."""
    vae: Any = autoencoder
    stride = 2 ** (len(vae.config.block_out_channels) - 1)
    at_once = _frames_at_once(latents.shape[2] * latents.shape[3] * stride**2)
    latents = (latents / vae.config.scaling_factor).transpose(0, 1).to(vae.dtype)
    with torch.inference_mode():
        decoded = [vae.decode(part).sample for part in latents.split(at_once)]
    return (torch.cat(decoded).float() / 2 + 0.5).clamp(0, 1)


def encode_frames(autoencoder: AutoencoderKL, frames: Pixels) -> LatentFrames:
    """Return the mean of each frame's latents, scaled to unit variance."""
    vae: Any = autoencoder
    pixels = (frames * 2 - 1).to(vae.device, vae.dtype)
    with torch.inference_mode():
        parts = pixels.split(_frames_at_once(frames.shape[2] * frames.shape[3]))
        means = [vae.encode(part).latent_dist.mode() for part in parts]
    return (torch.cat(means).float() * vae.config.scaling_factor).transpose(0, 1)


def _frames_at_once(pixels: int) -> int:
    return max(1, PIXELS_AT_ONCE // pixels)
