"""Networks that tell real frames and clips from reconstructed ones (PatchGAN; Isola et al., 2017, arXiv 1611.07004)."""

from torch import Tensor, nn

STRIDES = (2, 2, 2, 1)
"""Of the convolutions that are followed by others."""


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
