"""Networks whose weights are stored in 8 bits, and computed with in the format of the model."""

import importlib.util
from typing import Any

import diffusers
import torch
from torch import nn

from longtake.errors import InputError
from longtake.models.hub.configs import Configs, Family
from longtake.models.hub.loading import Quantise

DENOISERS = ("transformer", "transformer_2", "unet", "controlnet")


def quantised_parts(configs: Configs, family: Family, how: Quantise | None) -> list[str]:
    """Return the parts of a model that are to be quantised: those that denoise.

    Raises InputError where that cannot be: without a package, for networks of our own, for one that is quantised.
    """
    if how is None:
        return []
    if how == "int8" and importlib.util.find_spec("torchao") is None:
        raise InputError("--quantize int8 needs torchao, which is not installed; pip install torchao, or use fp8")
    parts = [name for name in DENOISERS if name in configs.parts]
    for name in parts:
        part = configs.parts[name]
        if getattr(diffusers, family.networks[name], None) is None:
            raise InputError(f"--quantize does not fit {family.models}: its network is not of diffusers; leave it out")
        if "quantization_config" in part.config:
            raise InputError(f"{part.where} is quantised already; leave --quantize out")
    return parts


def quantise(network: Any, how: Quantise | None) -> Any:
    """Store the weights of a network in 8 bits; return it."""
    if how == "fp8":
        network.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=network.dtype)
    else:
        _to_int8(network)
    return network


def _to_int8(network: Any) -> None:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_  # pyright: ignore[reportMissingImports]

    kept = tuple(network._keep_in_fp32_modules or ())

    def is_quantised(module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Linear) and not any(part in name for part in kept)

    quantize_(network, Int8WeightOnlyConfig(), filter_fn=is_quantised)
