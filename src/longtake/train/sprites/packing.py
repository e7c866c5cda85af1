"""Weights in 8 bits, a scale a row: a start of further training that takes half the bytes of half precision."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

_SCALE = ".scale"
_LARGEST = 127


def pack(weights: dict[str, Tensor], path: Path) -> None:
    """Write weights: matrices in 8 bits, half a step of which is 1 / 254 of a row's largest; all else in float16."""
    packed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.ndim < 2:
            packed[name] = weight.half()
            continue
        rows = weight.float().flatten(1)
        # Rounded up to half precision first, so that no quotient is above 127.
        scale = (rows.abs().amax(dim=1, keepdim=True) / _LARGEST * (1 + 2**-10)).half().clamp(min=2**-24)
        packed[name] = (rows / scale.float()).round().to(torch.int8).view(weight.shape)
        packed[name + _SCALE] = scale
    save_file({name: value.contiguous() for name, value in packed.items()}, path)


def unpack(path: Path) -> dict[str, Tensor]:
    """Return the weights in float32."""
    packed = load_file(path)
    weights = {}
    for name, value in packed.items():
        if name.endswith(_SCALE):
            continue
        scale = packed.get(name + _SCALE)
        rows = value.float() if scale is None else value.flatten(1).float() * scale.float()
        weights[name] = rows.view(value.shape)
    return weights
