"""PVDM's networks, from their folders and into them."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from longtake.models.hub.configs import EXTRAS, Part, place_of, stem
from longtake.models.hub.files import read_json
from longtake.models.hub.load import filled
from longtake.models.pvdm.autoencoder import PvdmAutoencoder
from longtake.models.pvdm.config import AutoencoderConfig, UnetConfig
from longtake.models.pvdm.spec import config_json, index_json, part_name, read_config
from longtake.models.pvdm.unet import PvdmUnet

TEXT_TOKENS = 77
"""Of CLIP, for counting."""


def load_network(part: Part) -> nn.Module:
    """Load a network as `save_network` wrote it. Raises CheckpointError for missing or damaged files."""
    place = place_of(part)
    if place.name == "unet":
        config = read_config(UnetConfig, place)
        return filled(lambda: PvdmUnet(config), place, part.variant)
    settings = read_config(AutoencoderConfig, place)
    return filled(lambda: PvdmAutoencoder(settings), place, part.variant)


def save_network(folder: Path, config: AutoencoderConfig | UnetConfig, tensors: dict[str, Tensor]) -> None:
    """Write a network into its part of a model folder; `tensors` are its state dict."""
    place = folder / part_name(config)
    place.mkdir()
    (place / "config.json").write_text(json.dumps(config_json(config), indent=2), encoding="utf-8")
    save_file(tensors, place / f"{stem(place.name)}.safetensors")


def save_index(folder: Path, with_text: bool, **extras: Any) -> None:
    """Write what a model folder says of itself; `extras` are fields of `Extras`, added to those that are there."""
    (folder / "model_index.json").write_text(json.dumps(index_json(with_text), indent=2), encoding="utf-8")
    known = read_json(folder / EXTRAS) if (folder / EXTRAS).is_file() else {}
    (folder / EXTRAS).write_text(json.dumps(known | extras, indent=2), encoding="utf-8")


@cache
def count_flops(config: AutoencoderConfig | UnetConfig) -> dict[str, int]:
    """Return the operations of a call of the UNet, or of decoding a frame, under their names in `Extras`.

    2 for a multiplication with its addition; batch 1.
    """
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        latents = torch.empty(1, config.latent_channels, config.grid.positions)
        if isinstance(config, AutoencoderConfig):
            PvdmAutoencoder(config).decode(latents)
            return {"decode_flops": counter.get_total_flops() // config.grid.frames}
        width = config.text_width
        text = None if width is None else torch.empty(1, TEXT_TOKENS, width)
        PvdmUnet(config)(latents, torch.zeros(1), None, text)
        return {"forward_flops": counter.get_total_flops()}
