"""The picture autoencoder in four calls: bytes or latents in, latents or pixels out."""

from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from jaxtyping import Float, UInt8
from torch import Tensor


def to_model(frames: UInt8[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Bytes to the range [-1, 1] that the autoencoder works in."""
    return frames.float() / 127.5 - 1


def posterior(vae: AutoencoderKL, pixels: Float[Tensor, "frames 3 height width"]) -> DiagonalGaussianDistribution:
    """What the encoder says: mean and spread of the latents, not scaled."""
    return vae.encode(pixels, return_dict=False)[0]


def decode(vae: AutoencoderKL, latents: Float[Tensor, "frames _ _ _"]) -> Float[Tensor, "frames 3 height width"]:
    """Pixels in [-1, 1] of latents that are not scaled."""
    z: Any = latents
    return vae.decode(z, return_dict=False)[0].float()


@torch.no_grad()
def encode_scaled(vae: AutoencoderKL, frames: UInt8[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames _ _ _"]:
    """Latents of unit variance, as the denoiser sees them."""
    return posterior(vae, to_model(frames)).mean.float() * _scale(vae)


@torch.no_grad()
def decode_scaled(vae: AutoencoderKL, latents: Float[Tensor, "frames _ _ _"]) -> Float[Tensor, "frames 3 height width"]:
    """Pixels in [0, 1] of latents of unit variance."""
    return (decode(vae, latents / _scale(vae)) / 2 + 0.5).clamp(0, 1)


def _scale(vae: AutoencoderKL) -> float:
    config: Any = vae.config
    return config.scaling_factor
