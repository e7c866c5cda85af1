"""The spec of a model whose latents go frame by frame through an image autoencoder. Imports no torch."""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from longtake.errors import CheckpointError
from longtake.machine import Part
from longtake.model import VideoModel, VideoSpec
from longtake.models.hub.configs import Configs, Count, Extras

PIXELS_AT_ONCE = 2**17
"""Pixels that the decoder is given in one call: 32 frames of 64 x 64, 2 of 256 x 256."""


@dataclass(frozen=True, kw_only=True)
class Denoiser:
    """What is read of the config of the network that denoises."""

    sample_size: Count | tuple[Count, Count]
    """Side, or height and width, of the latents that it was trained on."""
    in_channels: Count = 4
    """Channels of the latents."""
    cell: Count = 1
    """Side of the square of the autoencoder's latents that are one of the network's."""

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width of the latents."""
        return self.sample_size if isinstance(self.sample_size, tuple) else (self.sample_size, self.sample_size)


Network = TypeVar("Network", bound=Denoiser)


@dataclass(frozen=True, kw_only=True)
class Halvings:
    """What is read of the config of any autoencoder in stages."""

    block_out_channels: tuple[Count, ...]
    """One a halving of the picture, and one more."""

    @property
    def stride(self) -> int:
        """Return the pixels of a side of a cell of the latents."""
        return 2 ** (len(self.block_out_channels) - 1)


@dataclass(frozen=True, kw_only=True)
class ImageAutoencoder(Halvings):
    """What is read of the config of AutoencoderKL."""

    latent_channels: Count = 4
    """As many as the network that denoises takes."""


@dataclass(frozen=True, kw_only=True)
class NoiseLevels:
    """What is read of the config of a DDPM's scheduler; the default is the library's."""

    num_train_timesteps: Count = 1000


def sized(configs: Configs, extras: Extras, denoiser: Network) -> Network:
    """Return the network on latents of pictures of another size, where one was said.

    Raises InputError for a size that the autoencoder does not divide.
    """
    if extras.size is None:
        return denoiser
    stride = denoiser.cell * configs.parts["vae"].read(ImageAutoencoder).stride
    height, width = configs.picture_size(extras, stride)
    return replace(denoiser, sample_size=(height // stride, width // stride))


def image_spec(
    configs: Configs,
    extras: Extras,
    denoiser: Denoiser,
    capabilities: set[type[VideoModel]],
    network: str = "unet",
    working: int | None = None,
    text_width: int | None = 4,
    **more: Any,
) -> VideoSpec:
    """Return the spec; `network` is the part that `denoiser` was read of, `working` how many numbers it works with for
    a cell of the latents, `text_width` the bytes of a number of the text encoder (CLIP's: 4, whatever the others have;
    None: as the others), and `more` are further fields.

    Raises CheckpointError for parts that do not fit each other.
    """
    vae = configs.parts["vae"]
    read = vae.read(ImageAutoencoder)
    stride, (height, width) = denoiser.cell * read.stride, denoiser.size
    if denoiser.in_channels != read.latent_channels * denoiser.cell**2:
        where = configs.parts[network].where
        raise CheckpointError(
            f"{where}: {denoiser.in_channels} in_channels are made for other latents than those of {vae.where}, which "
            f"have {read.latent_channels}"
        )
    text, pixels = configs.parts.get("text_encoder"), height * width * stride**2
    at_once = min(extras.num_frames * pixels, max(pixels, PIXELS_AT_ONCE))
    return VideoSpec(
        name=configs.name,
        num_frames=extras.num_frames,
        height=height * stride,
        width=width * stride,
        fps=extras.fps,
        latent_shape=(denoiser.in_channels, extras.num_frames, height, width),
        guidance=extras.guidance,
        infill_guidance=extras.infill_guidance,
        capabilities=frozenset(capabilities),
        num_levels=configs.parts["scheduler"].read(NoiseLevels).num_train_timesteps,
        clean_frames=extras.clean_frames,
        vocabulary=None if extras.vocabulary is None else frozenset(extras.vocabulary),
        parameters=configs.parameters,
        text_encoder=Part(parameters=text.parameters, width=text_width) if text else Part(),
        network=Part(working=working and working * extras.num_frames * height * width),
        # Counted on fake tensors of the released sizes: maps of some frames, beside the pixels of a window.
        decoder=Part(
            parameters=vae.parameters,
            working=6 * read.block_out_channels[0] * at_once + 3 * extras.num_frames * pixels,
        ),
        forward_flops=extras.forward_flops,
        decode_flops=extras.decode_flops,
        **more,
    )
