"""How the known frames and the mask reach the UNet: features scaled and shifted, by nothing until trained."""

from torch import Tensor, nn
from torch.nn.functional import silu


class ConditionPyramid(nn.Module):
    """Known frames at every scale of the UNet, by a cascade of convolutions of stride 2."""

    def __init__(self, latent_channels: int, channels: int, num_scales: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(latent_channels, channels, 3, padding=1)
        halvings = (nn.Conv2d(channels, channels, 3, stride=2, padding=1) for _ in range(num_scales - 1))
        self.halvings = nn.ModuleList(halvings)

    def forward(self, known_FCHW: Tensor) -> list[Tensor]:
        """Return features of all frames, finest first."""
        scales = [silu(self.first(known_FCHW))]
        for halve in self.halvings:
            scales.append(silu(halve(scales[-1])))
        return scales


class Film(nn.Module):
    """h = w_c h + b_c + h  of the known frames, then  h = w_m h + b_m + h  of the mask (section 3.2)."""

    def __init__(self, channels: int, condition_channels: int) -> None:
        super().__init__()
        self.from_frames = _zero(nn.Conv2d(condition_channels, 2 * channels, 1))
        # The mask is the same all over a frame: one cell of it is enough.
        self.from_mask = _zero(nn.Conv2d(1, 2 * channels, 1))

    def forward(self, x_FCHW: Tensor, features_FDHW: Tensor, mask_F: Tensor) -> Tensor:
        """Return features of frames, changed by what is known at this scale and by which frames are known (1)."""
        for change in (self.from_frames(features_FDHW), self.from_mask(mask_F[:, None, None, None])):
            scale, shift = change.chunk(2, dim=1)
            x_FCHW = scale * x_FCHW + shift + x_FCHW
        return x_FCHW


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
