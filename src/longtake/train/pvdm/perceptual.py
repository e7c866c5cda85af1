"""The choice of a network that says how different two pictures look."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from longtake.errors import CheckpointError
from longtake.models.pvdm.losses import Lpips, our_lpips
from longtake.train.pvdm.efficientnet import load_efficientnet
from longtake.train.pvdm.settings import Perceptual

_NAMES = ((r"^features\.", "perceptual_loss.net.slice1."), (r"^lin(\d)\.", r"perceptual_loss.lin\1."))
"""Names in torchvision's VGG-16, and in the weights of the package lpips -> those in PVDM's loss_last.pth."""


def load_perceptual(kind: Perceptual, files: Sequence[Path], device: torch.device) -> nn.Module | None:
    """Return the network, not to be trained; None for none. `files` are those of "vgg".

    Raises CheckpointError for files that do not hold it all, MissingExtraError without EfficientNet's package.
    """
    if kind == "none":
        return None
    network = load_lpips(files) if kind == "vgg" else load_efficientnet()
    return network.eval().requires_grad_(False).to(device)


def load_lpips(files: Sequence[Path]) -> Lpips:
    """Return LPIPS from PVDM's loss_last.pth, or from torchvision's VGG-16 and the vgg.pth of the package lpips."""
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= _read(file)
    for pattern, place in _NAMES:
        tensors = {re.sub(pattern, place, name): tensor for name, tensor in tensors.items()}
    with torch.device("meta"):
        network = Lpips()
    ours = our_lpips(tensors)
    given = " and ".join(map(str, files))
    for name, tensor in network.state_dict().items():
        if name not in ours or ours[name].shape != tensor.shape:
            raise CheckpointError(
                f"{given} is not the whole of LPIPS over VGG-16: {name} is missing or of another shape; "
                "give PVDM's loss_last.pth, or torchvision's vgg16 and vgg.pth of the package lpips"
            )
    network.load_state_dict(ours, assign=True)
    return network


def _read(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"cannot read {file} ({why}); give a file of weights alone") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds no tensors by name; give a file of weights alone")
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}
