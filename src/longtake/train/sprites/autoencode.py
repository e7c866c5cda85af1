"""The picture autoencoder in five calls: bytes or latents in, latents, pixels or a picture of them out."""

from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import pixel_shuffle

from longtake.models.modelscope.spec import cell_side
from longtake.train.fit.task import sheet


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


def decoded_sheet(
    vae: AutoencoderKL, frames: Float[Tensor, "clips frames _ _ _"]
) -> Float[Tensor, "3 sheet_height sheet_width"]:
    """Latents of unit variance as one picture: every second frame of clips, a row each, or single frames in 6 rows.

    They may be squares of the autoencoder's own in one.
    """
    config: Any = vae.config
    own = pixel_shuffle(frames.flatten(0, 1), cell_side(frames.shape[2], config.latent_channels))
    pixels, clips = decode_scaled(vae, own), frames.shape[1] > 1
    return sheet(pixels.unflatten(0, frames.shape[:2])[:, ::2] if clips else pixels.unflatten(0, (6, -1)))


def _scale(vae: AutoencoderKL) -> float:
    config: Any = vae.config
    return config.scaling_factor
