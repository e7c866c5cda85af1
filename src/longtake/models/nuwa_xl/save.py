"""Writes NUWA-XL folders, as `folder.py` and `load.py` read them."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from longtake.models.hub.configs import EXTRAS, stem
from longtake.models.nuwa_xl.mtd import MaskTemporalUnet
from longtake.models.nuwa_xl.spec import OVER_TIME, T_KLVAE, index_json, unet_config_json
from longtake.models.nuwa_xl.t_klvae import TemporalAutoencoder


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
