"""The networks that judge PVDM's autoencoder in training, and the authors' names for them (their loss_last.pth).

Discriminators tell real frames and clips from reconstructed ones (PatchGAN; Isola et al., 2017, arXiv 1611.07004).
LPIPS says how different two pictures look, over VGG-16 (Zhang et al., 2018, arXiv 1801.03924).
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, normalize

from longtake.errors import CheckpointError
from longtake.reading import check_file

STRIDES = (2, 2, 2, 1)
"""Of a discriminator's convolutions that are followed by others."""
MEAN = (-0.030, -0.088, -0.188)
STD = (0.458, 0.448, 0.450)
"""Of the pictures that VGG-16 was trained on, in units of [-1, 1]."""
VGG_CHANNELS = (64, 128, 256, 512, 512)
VGG_CONVOLUTIONS = (2, 2, 3, 3, 3)
VGG_LAYER = {
    "0": "0.0", "2": "0.2", "5": "1.0", "7": "1.2", "10": "2.0", "12": "2.2", "14": "2.4",
    "17": "3.0", "19": "3.2", "21": "3.4", "24": "4.0", "26": "4.2", "28": "4.4",
}  # fmt: skip
"""Number of a convolution in VGG-16 -> ours: stage and place in it."""
_NAMES = ((r"^features\.", "perceptual_loss.net.slice1."), (r"^lin(\d)\.", r"perceptual_loss.lin\1."))
"""Names in torchvision's VGG-16, and in the weights of the package lpips -> those in PVDM's loss_last.pth."""


class PatchDiscriminator(nn.Module):
    """A score for every patch, above 0 for real; of frames with two axes, of clips with three."""

    def __init__(self, axes: int, channels: int = 64) -> None:
        super().__init__()
        convolution, norm = (nn.Conv2d, nn.BatchNorm2d) if axes == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.stages = nn.ModuleList()
        entering = 3
        for number, stride in enumerate(STRIDES):
            width = channels * 2**number
            layers = [convolution(entering, width, 4, stride, padding=2)]
            layers += [norm(width)] if number else []
            self.stages.append(nn.Sequential(*layers, nn.LeakyReLU(0.2)))
            entering = width
        self.score = convolution(entering, 1, 4, padding=2)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the scores and what each stage saw, for pixels (batch, 3, ...) in [-1, 1]."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return self.score(x), features


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        nn.init.normal_(module.weight, std=0.02)
    elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
        nn.init.normal_(module.weight, mean=1.0, std=0.02)


class Lpips(nn.Module):
    """A distance that follows what people see: differences of VGG-16's features, weighed by what people said."""

    def __init__(self, channels: tuple[int, ...] = VGG_CHANNELS) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        entering = 3
        for width, convolutions in zip(channels, VGG_CONVOLUTIONS, strict=True):
            widths = [entering] + [width] * convolutions
            layers = [nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths, widths[1:], strict=False)]
            self.stages.append(nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU()))))
            entering = width
        self.weights = nn.ParameterList(torch.zeros(width) for width in channels)

    def forward(self, pictures: Tensor, others: Tensor) -> Tensor:
        """Return the distance of each pair, (batch,), for pixels (batch, 3, height, width) in [-1, 1]."""
        mean, std = (pictures.new_tensor(values)[:, None, None] for values in (MEAN, STD))
        x, y = (pictures - mean) / std, (others - mean) / std
        distance = pictures.new_zeros(len(pictures))
        for number, (stage, weights) in enumerate(zip(self.stages, self.weights, strict=True)):
            x, y = (stage(max_pool2d(side, 2) if number else side) for side in (x, y))
            apart = (normalize(x, eps=1e-10) - normalize(y, eps=1e-10)) ** 2
            distance = distance + torch.einsum("bchw,c->bhw", apart, weights).mean(dim=(1, 2))
        return distance


def our_lpips(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of LPIPS: VGG-16's convolutions and the weights of its five stages."""
    ours: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if found := re.fullmatch(r"perceptual_loss\.net\.slice\d\.(\d+)\.(weight|bias)", name):
            ours[f"stages.{VGG_LAYER[found[1]]}.{found[2]}"] = tensor
        elif found := re.fullmatch(r"perceptual_loss\.lin(\d)\.model\.1\.weight", name):
            ours[f"weights.{found[1]}"] = tensor.flatten()
    return ours


def load_lpips(files: Sequence[Path]) -> Lpips:
    """Return LPIPS from PVDM's loss_last.pth, or from torchvision's VGG-16 and the vgg.pth of the package lpips."""
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= read_tensors(file)
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


def read_tensors(file: Path, advice: str = "give a file of weights alone") -> dict[str, Tensor]:
    """Return the tensors that a file holds by name. Raises CheckpointError, with this advice, for any other file."""
    try:
        check_file(file)
        safe = file.suffix == ".safetensors"
        content = load_file(file) if safe else torch.load(file, map_location="cpu", weights_only=True)
        return {name: value for name, value in content.items() if isinstance(value, Tensor)}
    except Exception as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"cannot read {file} ({why}); {advice}") from error
