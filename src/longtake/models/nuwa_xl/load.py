"""NUWA-XL's own networks, from their folders."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet3DConditionModel

from longtake.errors import CheckpointError
from longtake.models.hub.configs import Part, place_of
from longtake.models.hub.files import read_json
from longtake.models.hub.load import filled, library_part
from longtake.models.nuwa_xl.image_unet import images_of
from longtake.models.nuwa_xl.mtd import MaskTemporalUnet
from longtake.models.nuwa_xl.spec import OVER_TIME, T_KLVAE, MtdConfig, OverTime, read_unet_config
from longtake.models.nuwa_xl.t_klvae import LayersOverTime, TemporalAutoencoder
from longtake.typed import read_typed


def load_network(part: Part) -> MaskTemporalUnet | LayersOverTime:
    """Load the UNet of a model, or its layers over time of T-KLVAE. Raises CheckpointError for damaged files."""
    load = load_over_time if part.config.get("_class_name") == T_KLVAE else load_unet
    return load(place_of(part))


def load_unet(place: Path) -> MaskTemporalUnet:
    """Load a UNet as `save_unet` wrote it, float32. Raises CheckpointError for missing or damaged files."""
    config, image = read_unet_config(place)
    library: Any = UNet2DConditionModel
    return filled(lambda: MaskTemporalUnet(library.from_config(image), config), place).float().eval()


def load_temporal_autoencoder(folder: Path) -> TemporalAutoencoder:
    """Load T-KLVAE as `save_temporal_autoencoder` wrote it, float32. Raises CheckpointError for damaged files."""
    layers = load_over_time(folder / OVER_TIME)
    network = TemporalAutoencoder(library_part(AutoencoderKL, folder / "vae", "vae", torch.float32), layers.frames)
    network.over_time = layers
    return network.eval().requires_grad_(False)


def load_over_time(place: Path) -> LayersOverTime:
    """Load what T-KLVAE adds to an image VAE, float32. Raises CheckpointError for missing or damaged files."""
    path = place / "config.json"
    content = {name: value for name, value in read_json(path).items() if name != "_class_name"}
    config = read_typed(OverTime, content, str(path), error=CheckpointError)
    library: Any = AutoencoderKL
    return filled(lambda: LayersOverTime(library.from_config(dict(config.image)), config.frames), place).float().eval()


def from_video_unet(place: Path, config: MtdConfig) -> MaskTemporalUnet:
    """Return a new network over the images of a video UNet in a folder (UNet3DConditionModel)."""
    return MaskTemporalUnet(images_of(library_part(UNet3DConditionModel, place, "unet", torch.float32)), config)


def from_image_unet(place: Path, config: MtdConfig) -> MaskTemporalUnet:
    """Return a new network over an image UNet in a folder (UNet2DConditionModel)."""
    image = library_part(UNet2DConditionModel, place, "unet", torch.float32)
    return MaskTemporalUnet(image.requires_grad_(True), config)
