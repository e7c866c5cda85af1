"""NUWA-XL's own networks, from their folders."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet3DConditionModel
from safetensors.torch import load_file

from longtake.errors import CheckpointError
from longtake.models.hub.configs import Part, place_of, stem
from longtake.models.hub.files import read_json
from longtake.models.hub.load import filled, library_part, one_line_errors
from longtake.models.nuwa_xl.config import MtdConfig
from longtake.models.nuwa_xl.image_unet import images_of
from longtake.models.nuwa_xl.mtd import MaskTemporalUnet
from longtake.models.nuwa_xl.spec import OVER_TIME, read_unet_config
from longtake.models.nuwa_xl.t_klvae import TemporalAutoencoder


def load_network(part: Part) -> MaskTemporalUnet:
    """Load the UNet of a model. Raises CheckpointError for missing or damaged files."""
    return load_unet(place_of(part))


def load_unet(place: Path) -> MaskTemporalUnet:
    """Load a UNet as `save_unet` wrote it, float32. Raises CheckpointError for missing or damaged files."""
    config, image = read_unet_config(place)
    library: Any = UNet2DConditionModel
    return filled(lambda: MaskTemporalUnet(library.from_config(image), config), place).float().eval()


def load_temporal_autoencoder(folder: Path) -> TemporalAutoencoder:
    """Load T-KLVAE as `save_temporal_autoencoder` wrote it, float32. Raises CheckpointError for damaged files."""
    place = folder / OVER_TIME
    frames = read_json(place / "config.json").get("frames")
    if type(frames) is not int or frames < 1:
        raise CheckpointError(f"{place / 'config.json'}: frames cannot be {frames!r}; fetch the model again")
    network = TemporalAutoencoder(library_part(AutoencoderKL, folder / "vae", "vae", torch.float32), frames)
    image = {f"image.{name}": value for name, value in network.image.state_dict().items()}
    with one_line_errors(place):
        network.load_state_dict(image | load_file(place / f"{stem(OVER_TIME)}.safetensors"))
    return network.eval().requires_grad_(False)


def from_video_unet(place: Path, config: MtdConfig) -> MaskTemporalUnet:
    """Return a new network over the images of a video UNet in a folder (UNet3DConditionModel)."""
    return MaskTemporalUnet(images_of(library_part(UNet3DConditionModel, place, "unet", torch.float32)), config)


def from_image_unet(place: Path, config: MtdConfig) -> MaskTemporalUnet:
    """Return a new network over an image UNet in a folder (UNet2DConditionModel)."""
    image = library_part(UNet2DConditionModel, place, "unet", torch.float32)
    return MaskTemporalUnet(image.requires_grad_(True), config)
