"""The networks of published video scores, for weights that come without their code: I3D and C3D.

Layers are those of the papers, names those of the common PyTorch files. B clips, C channels, T frames, H and W pixels.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longtake.errors import CheckpointError

_MIXED = {
    "Mixed_3b": (192, 64, 96, 128, 16, 32, 32),
    "Mixed_3c": (256, 128, 128, 192, 32, 96, 64),
    "Mixed_4b": (480, 192, 96, 208, 16, 48, 64),
    "Mixed_4c": (512, 160, 112, 224, 24, 64, 64),
    "Mixed_4d": (512, 128, 128, 256, 24, 64, 64),
    "Mixed_4e": (512, 112, 144, 288, 32, 64, 64),
    "Mixed_4f": (528, 256, 160, 320, 32, 128, 128),
    "Mixed_5b": (832, 256, 160, 320, 32, 128, 128),
    "Mixed_5c": (832, 384, 192, 384, 48, 128, 128),
}
"""Channels that enter, and those of b0, b1a, b1b, b2a, b2b, b3b."""
_C3D = {
    "conv1": (3, 64), "conv2": (64, 128), "conv3a": (128, 256), "conv3b": (256, 256),
    "conv4a": (256, 512), "conv4b": (512, 512), "conv5a": (512, 512), "conv5b": (512, 512),
}  # fmt: skip


class _Unit(nn.Module):
    """Convolution, normalisation, ReLU."""

    def __init__(self, entering: int, leaving: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(entering, leaving, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(leaving, eps=1e-3)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        padded = _same(x_BCTHW, self.conv3d.kernel_size, self.conv3d.stride)
        return F.relu(self.bn(self.conv3d(padded)))


class _Mixed(nn.Module):
    """Four branches side by side."""

    def __init__(self, entering: int, b0: int, b1a: int, b1b: int, b2a: int, b2b: int, b3b: int) -> None:
        super().__init__()
        self.b0 = _Unit(entering, b0, 1)
        self.b1a, self.b1b = _Unit(entering, b1a, 1), _Unit(b1a, b1b, 3)
        self.b2a, self.b2b = _Unit(entering, b2a, 1), _Unit(b2a, b2b, 3)
        self.b3b = _Unit(entering, b3b, 1)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        pooled = self.b3b(_pool(x_BCTHW, (3, 3, 3), (1, 1, 1)))
        branches = (self.b0(x_BCTHW), self.b1b(self.b1a(x_BCTHW)), self.b2b(self.b2a(x_BCTHW)), pooled)
        return torch.cat(branches, dim=1)


class I3d(nn.Module):
    """Inflated Inception (Carreira and Zisserman, 2017, arXiv 1705.07750): clips (clips, 3, frames, 224, 224) of
    9 frames or more, in -1 to 1, to what it says of each class before the softmax, the mean over time."""

    def __init__(self, classes: int = 400) -> None:
        super().__init__()
        self.Conv3d_1a_7x7, self.Conv3d_2b_1x1 = _Unit(3, 64, 7, 2), _Unit(64, 64, 1)
        self.Conv3d_2c_3x3 = _Unit(64, 192, 3)
        for name, widths in _MIXED.items():
            self.add_module(name, _Mixed(*widths))
        self.logits = nn.ModuleDict({"conv3d": nn.Conv3d(1024, classes, 1)})

    def forward(self, clips: Tensor) -> Tensor:
        """Return (clips, classes)."""
        x = _pool(self.Conv3d_1a_7x7(clips), (1, 3, 3), (1, 2, 2))
        x = _pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        for name in _MIXED:
            if name == "Mixed_4b":
                x = _pool(x, (3, 3, 3), (2, 2, 2))
            if name == "Mixed_5b":
                x = _pool(x, (2, 2, 2), (2, 2, 2))
            x = self.get_submodule(name)(x)
        return self.logits["conv3d"](F.avg_pool3d(x, (2, 7, 7), 1)).mean(dim=(2, 3, 4))


class C3d(nn.Module):
    """C3D (Tran et al., ICCV 2015, arXiv 1412.0767): clips of 16 frames of 112x112 pixels, (clips, 3, 16, 112, 112), to
    the probability of each class."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        for name, (entering, leaving) in _C3D.items():
            self.add_module(name, nn.Conv3d(entering, leaving, 3, padding=1))
        self.fc6, self.fc7, self.fc8 = nn.Linear(8192, 4096), nn.Linear(4096, 4096), nn.Linear(4096, classes)

    def forward(self, clips: Tensor) -> Tensor:
        """Return (clips, classes)."""
        x = clips
        for name in _C3D:
            x = F.relu(self.get_submodule(name)(x))
            if name == "conv1":
                x = F.max_pool3d(x, (1, 2, 2))
            elif name == "conv5b":
                x = F.max_pool3d(x, 2, padding=(0, 1, 1))
            elif not name.endswith("a"):
                x = F.max_pool3d(x, 2)
        x = F.relu(self.fc7(F.relu(self.fc6(x.flatten(1)))))
        return self.fc8(x).softmax(dim=1)


def network_of(tensors: Mapping[str, Tensor], where: str) -> I3d | C3d:
    """Return the network that has these weights. Raises CheckpointError for those of another, and for missing ones."""
    given = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    given = {name: tensor for name, tensor in given.items() if not name.endswith("num_batches_tracked")}
    last = {"logits.conv3d.bias": I3d, "fc8.bias": C3d}
    head = next((name for name in last if name in given), None)
    if head is None:
        raise CheckpointError(f"{where} holds the weights of neither I3D nor C3D; give those, or TorchScript")
    with torch.device("meta"):
        network = last[head](len(given[head]))
    wanted = {name: one for name, one in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    for name in sorted(wanted.keys() | given.keys()):
        if name not in wanted or name not in given or wanted[name].shape != given[name].shape:
            kind = type(network).__name__.upper()
            raise CheckpointError(f"{where} is no {kind}: {name} is missing, of another shape, or too much")
    floats = {name: tensor.float() for name, tensor in given.items()}
    counters = {name: torch.zeros((), dtype=torch.long) for name in network.state_dict() if name not in wanted}
    network.load_state_dict(floats | counters, assign=True)
    return network.eval().requires_grad_(False)


def _pool(x_BCTHW: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    return F.max_pool3d(_same(x_BCTHW, kernel, stride), kernel, stride)


def _same(x_BCTHW: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Pad so that ceil(size / stride) places come out, the odd row behind, as TensorFlow does."""
    pads: list[int] = []
    for size, reach, step in zip(map(int, x_BCTHW.shape[:1:-1]), kernel[::-1], stride[::-1], strict=True):
        missing = max((-(-size // step) - 1) * step + reach - size, 0)
        pads += [missing // 2, missing - missing // 2]
    return F.pad(x_BCTHW, pads)
