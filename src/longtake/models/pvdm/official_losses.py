"""The networks of the authors' losses (their loss_last.pth) under our names."""

import re
from collections.abc import Mapping

from torch import Tensor

VGG_LAYER = {
    "0": "0.0", "2": "0.2", "5": "1.0", "7": "1.2", "10": "2.0", "12": "2.2", "14": "2.4",
    "17": "3.0", "19": "3.2", "21": "3.4", "24": "4.0", "26": "4.2", "28": "4.4",
}  # fmt: skip
"""Number of a convolution in VGG-16 -> ours: stage and place in it."""


def our_discriminator(tensors: Mapping[str, Tensor], axes: int) -> dict[str, Tensor]:
    """Return the tensors of one discriminator, of frames (2 axes) or clips (3 axes)."""
    prefix = f"discriminator_{axes}d."
    ours = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    ours = {re.sub(r"^model4\.0\.", "score.", name): tensor for name, tensor in ours.items()}
    return {re.sub(r"^model(\d)\.", r"stages.\1.", name): tensor for name, tensor in ours.items()}


def our_lpips(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of LPIPS: VGG-16's convolutions and the weights of its five stages."""
    ours: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if found := re.fullmatch(r"perceptual_loss\.net\.slice\d\.(\d+)\.(weight|bias)", name):
            ours[f"stages.{VGG_LAYER[found[1]]}.{found[2]}"] = tensor
        elif found := re.fullmatch(r"perceptual_loss\.lin(\d)\.model\.1\.weight", name):
            ours[f"weights.{found[1]}"] = tensor.flatten()
    return ours
