"""Numbers of the authors' own code: small networks with random weights, their inputs and outputs."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from longtake.models.pvdm.autoencoder import PvdmAutoencoder
from longtake.models.pvdm.config import Grid
from longtake.models.pvdm.convert import autoencoder_config, our_autoencoder, our_unet, unet_config
from longtake.models.pvdm.unet import PvdmUnet

DATA = Path(__file__).parents[2] / "golden" / "data" / "pvdm"
ROOTS = [DATA] + [Path(os.environ[name]) / "pvdm" for name in ("LONGTAKE_GOLDEN",) if name in os.environ]
FOLDERS = sorted(found.parent for root in ROOTS for found in root.rglob("meta.json"))
each_golden = pytest.mark.parametrize("golden", FOLDERS, ids=lambda folder: str(folder), scope="module")


def meta(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "meta.json").read_text())


def arrays(golden: Path, name: str) -> dict[str, Tensor]:
    with np.load(golden / f"{name}_io.npz") as content:
        return {key: torch.from_numpy(content[key]) for key in content}


def weights(golden: Path, name: str) -> dict[str, Tensor]:
    tensors = load_file(golden / f"{name}.safetensors")
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}


def golden_autoencoder(golden: Path) -> PvdmAutoencoder:
    ours = our_autoencoder(weights(golden, "ae"))
    network = PvdmAutoencoder(autoencoder_config(ours))
    network.load_state_dict(ours)
    return network


def golden_unet(golden: Path) -> PvdmUnet:
    config, ours = meta(golden)["configs"]["unet"], our_unet(weights(golden, "unet"))
    side, positions = config["image_size"], arrays(golden, "unet")["z"].shape[2]
    grid = Grid(frames=(positions - side**2) // (2 * side), rows=side, columns=side)
    network = PvdmUnet(unet_config(ours, grid, config["num_heads"]))
    network.load_state_dict(ours)
    return network


def our_discriminator(tensors: Mapping[str, Tensor], axes: int) -> dict[str, Tensor]:
    """Return the tensors of one discriminator, of frames (2 axes) or clips (3 axes)."""
    prefix = f"discriminator_{axes}d."
    ours = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    ours = {re.sub(r"^model4\.0\.", "score.", name): tensor for name, tensor in ours.items()}
    return {re.sub(r"^model(\d)\.", r"stages.\1.", name): tensor for name, tensor in ours.items()}


def largest(difference: Tensor) -> float:
    return difference.abs().max().item()
