"""T-KLVAE: an image VAE that sees the frames before and after (NUWA-XL, section 3.1).

A convolution over time follows every convolution over space, attention over time every attention over space, on the way
in and on the way out. At the start both ways are those of the image VAE, frame by frame. Time is not compressed.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from jaxtyping import Float
from torch import Tensor, nn

from longtake.arrays import LatentFrames, Latents
from longtake.models.image_model import Pixels
from longtake.models.nuwa_xl.over_time import TimeAttention, TimeConvolution

Videos = Float[Tensor, "windows 3 frames pixel_height pixel_width"]
"""Pixels of clips in [-1, 1]."""


class LayersOverTime(nn.Module):
    """What T-KLVAE adds to an image VAE, which is not part of it."""

    def __init__(self, image: AutoencoderKL, frames: int) -> None:
        """Make layers for an image VAE built like `image`, on clips of up to `frames` frames."""
        super().__init__()
        self.frames = frames
        self.convolutions, self.attentions = nn.ModuleDict(), nn.ModuleDict()
        for name, layer in image.named_modules():
            if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1):
                self.convolutions[_key(name)] = TimeConvolution(layer.out_channels)
            elif isinstance(layer, Attention):
                self.attentions[_key(name)] = TimeAttention(layer.query_dim, layer.heads, frames, mlp=False)

    def encode(self, image: AutoencoderKL, video: Videos) -> DiagonalGaussianDistribution:
        """Return the distribution of latents, (clips x frames, channels, height, width), not scaled."""
        with self._behind(image, video.shape[2]):
            return image.encode(_frames(video), return_dict=False)[0]

    def decode(self, image: AutoencoderKL, latents: Latents) -> Videos:
        """Return clips in about [-1, 1] of latents that are not scaled."""
        flat: Any = _frames(latents)
        with self._behind(image, latents.shape[2]):
            (pixels,) = image.decode(flat, return_dict=False)
        return pixels.unflatten(0, (-1, latents.shape[2])).transpose(1, 2)

    @contextmanager
    def _behind(self, image: AutoencoderKL, num_frames: int) -> Iterator[None]:
        with ExitStack() as stack:
            for name, layer in (*self.convolutions.items(), *self.attentions.items()):
                place = image.get_submodule(name.replace("-", "."))
                stack.enter_context(place.register_forward_hook(_followed_by(layer, num_frames)))
            yield


class TemporalAutoencoder(nn.Module):
    """An image VAE with layers over time, as one network to train."""

    def __init__(self, image: AutoencoderKL, frames: int) -> None:
        """Teach `image` about clips of up to `frames` frames; its weights become part of this network, in place."""
        super().__init__()
        self.image, self.over_time = image, LayersOverTime(image, frames)

    def encode(self, video: Videos) -> DiagonalGaussianDistribution:
        """Return the distribution of latents, (clips x frames, channels, height, width), not scaled."""
        return self.over_time.encode(self.image, video)

    def decode(self, latents: Latents) -> Videos:
        """Return clips in about [-1, 1] of latents that are not scaled."""
        return self.over_time.decode(self.image, latents)


def decode_clips(image: AutoencoderKL, over_time: LayersOverTime, latents: LatentFrames) -> Pixels:
    """Decode frames as clips, each as long as the layers over time take them."""
    vae: Any = image
    scaled = (latents / vae.config.scaling_factor).to(vae.dtype)
    with torch.inference_mode():
        clips = [over_time.decode(image, clip[None])[0] for clip in scaled.split(over_time.frames, dim=1)]
    return (torch.cat(clips, dim=1).transpose(0, 1).float() / 2 + 0.5).clamp(0, 1)


def encode_clips(image: AutoencoderKL, over_time: LayersOverTime, frames: Pixels) -> LatentFrames:
    """Return the mean of each frame's latents, scaled to unit variance, of frames as clips, each as long as can be."""
    vae: Any = image
    video = (frames * 2 - 1).to(vae.device, vae.dtype).transpose(0, 1)
    with torch.inference_mode():
        means = [over_time.encode(image, clip[None]).mode() for clip in video.split(over_time.frames, dim=1)]
    return (torch.cat(means).float() * vae.config.scaling_factor).transpose(0, 1)


def _followed_by(layer: nn.Module, num_frames: int) -> Any:
    return lambda place, inputs, output: layer(output, num_frames)


def _key(name: str) -> str:
    return name.replace(".", "-")


def _frames(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(0, 1)
