"""The work that a model is, counted without weights: for the plan's estimate of time."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from longtake.models.diffusers.folder import folder_spec, part_folders
from longtake.models.diffusers.hub_files import read_json


def count_flops(folder: Path) -> tuple[int, int]:
    """Return the floating-point operations of one network evaluation, and of decoding one frame.

    One evaluation is one window under one guidance branch, its text projected as the stock pipeline does in every call.
    """
    spec, parts = folder_spec(folder), part_folders(folder)
    configs = {part: read_json(parts[part] / "config.json") for part in ("unet", "vae")}
    with torch.device("meta"):
        unet: Any = UNet3DConditionModel.from_config(configs["unet"])
        vae: Any = AutoencoderKL.from_config(configs["vae"])
        x = torch.empty(1, *spec.latent_shape)
        text = torch.empty(1, _num_tokens(parts["tokenizer"]), configs["unet"]["cross_attention_dim"])
        timestep = torch.zeros(1)
    with torch.no_grad(), FlopCounterMode(display=False) as forward:
        unet(x, timestep, text)
    with torch.no_grad(), FlopCounterMode(display=False) as decode:
        vae.decode(x[:, :, 0])
    return forward.get_total_flops(), decode.get_total_flops()


def _num_tokens(tokenizer: Path) -> int:
    return min(int(read_json(tokenizer / "tokenizer_config.json").get("model_max_length", 77)), 77)
