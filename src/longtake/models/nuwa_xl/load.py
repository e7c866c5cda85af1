"""NUWA-XL's own networks, from their folders and into them."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet3DConditionModel
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from longtake.errors import CheckpointError
from longtake.models.hub.configs import EXTRAS, Part, place_of, stem
from longtake.models.hub.files import read_json
from longtake.models.hub.load import filled, library_part
from longtake.models.nuwa_xl.image_unet import images_of
from longtake.models.nuwa_xl.mtd import MaskTemporalUnet
from longtake.models.nuwa_xl.spec import (
    OVER_TIME,
    T_KLVAE,
    MtdConfig,
    OverTime,
    index_json,
    read_unet_config,
    unet_config_json,
)
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


def save_unet(place: Path, network: MaskTemporalUnet, dtype: torch.dtype) -> None:
    """Write a UNet into the folder of this part."""
    place.mkdir(parents=True, exist_ok=True)
    settings: Any = network.image.config
    image = {name: value for name, value in settings.items() if not name.startswith("_")}
    _write(place / "config.json", unet_config_json(network.config, image))
    tensors = {name: value.detach().to(dtype).contiguous() for name, value in network.state_dict().items()}
    save_file(tensors, place / f"{stem('unet')}.safetensors")


def save_temporal_autoencoder(folder: Path, network: TemporalAutoencoder) -> None:
    """Write T-KLVAE as two parts: `vae`, which the library can load by itself, and `vae_over_time`."""
    network.image.save_pretrained(folder / "vae")
    save_over_time(folder, network)


def save_over_time(folder: Path, network: TemporalAutoencoder) -> None:
    """Write what T-KLVAE adds to its image VAE."""
    place = folder / OVER_TIME
    place.mkdir(parents=True, exist_ok=True)
    image = {name: value for name, value in dict(network.image.config).items() if not name.startswith("_")}
    _write(place / "config.json", {"_class_name": T_KLVAE, "frames": network.over_time.frames, "image": image})
    save_file(network.over_time.state_dict(), place / f"{stem(OVER_TIME)}.safetensors")


def save_index(folder: Path, extras: dict[str, Any]) -> None:
    """Write what a model folder says of itself; `extras` are fields of `Extras`."""
    _write(folder / "model_index.json", index_json(over_time=(folder / OVER_TIME).is_dir()))
    _write(folder / EXTRAS, extras)


@torch.no_grad()
def count_flops(network: MaskTemporalUnet, tokens: int) -> int:
    """Return the operations of one evaluation: 2 for a multiplication with its addition; one clip."""
    config: Any = network.image.config
    frames, size = network.config.frames, config.sample_size
    x, one = torch.zeros(1, config.in_channels, frames, size, size), torch.ones(1, dtype=torch.long)
    text = torch.zeros(1, frames, tokens, config.cross_attention_dim)
    with FlopCounterMode(display=False) as counter:
        network(x, one, text, x, torch.zeros(1, frames), one)
    return counter.get_total_flops()


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
