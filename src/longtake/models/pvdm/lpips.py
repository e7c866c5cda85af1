"""How different two pictures look: LPIPS over VGG-16 (Zhang et al., 2018, arXiv 1801.03924)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, normalize

MEAN = (-0.030, -0.088, -0.188)
STD = (0.458, 0.448, 0.450)
"""Of the pictures that VGG-16 was trained on, in units of [-1, 1]."""
VGG_CHANNELS = (64, 128, 256, 512, 512)
VGG_CONVOLUTIONS = (2, 2, 3, 3, 3)


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
