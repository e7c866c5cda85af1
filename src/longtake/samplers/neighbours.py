"""A video whose frames processes share out, layer by layer: each asks the others for the frames beside its own.

Only those frames and the moments of norms travel. What a layer gives does not depend on how many processes there are.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from longtake.ranks.world import Group
from longtake.samplers.clips import around, halos


class Neighbours:
    """The frames that one process holds, and those of the others around them."""

    def __init__(self, held: Sequence[range], group: Group) -> None:
        """`held` are the frames of every rank, which tile the video."""
        self.held, self.group, self.total = tuple(held), group, held[-1].stop
        self.frames = self.held[group.rank]

    def ask(self, parts: Sequence[Tensor], axis: int, reach: int) -> Callable[[], tuple[list[Tensor], int]]:
        """Ask for the frames within reach; the function returned gives all frames from there on, and the first's
        number."""
        coming = self.group.fetch(parts, axis, self.held, halos(self.held, reach, self.total))
        first = around(self.frames, reach, self.total).start

        def extended() -> tuple[list[Tensor], int]:
            left, joined = self.frames.start - first, []
            for part, edges in zip(parts, coming(), strict=True):
                before, after = edges.split([left, edges.shape[axis] - left], dim=axis)
                joined.append(torch.cat([before, part, after], dim=axis) if edges.shape[axis] else part)
            return joined, first

        return extended

    def convolve(self, convolution: nn.Conv3d, x: Tensor) -> Tensor:
        """See FrameMixer. It runs before the neighbours' frames are there; the frames that need them are done again."""
        if self.group.size == 1:
            return convolution(x)
        arriving = self.ask([x], 2, 1)
        y = convolution(x)
        (extended,), first = arriving()
        if first < self.frames.start:
            y[:, :, 0] = convolution(extended[:, :, :3])[:, :, 1]
        if first + extended.shape[2] > self.frames.stop:
            y[:, :, -1] = convolution(extended[:, :, -3:])[:, :, -2]
        return y

    def normalise(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        """See FrameMixer: the moments are those of the whole video."""
        return self.normalise_windows(norm, x, 1, [len(frames) for frames in self.held])

    def normalise_windows(self, norm: nn.GroupNorm, x: Tensor, num_windows: int, counts: Sequence[int]) -> Tensor:
        """Return x, which holds so many windows one after the other, by the moments of all of them on all processes,
        of which every rank has so many frames."""
        # (frames of every window, batch, channels, height, width)
        rows = x.unflatten(0, (num_windows, -1)).permute(0, 3, 1, 2, 4, 5).flatten(0, 1)
        grouped = rows.unflatten(2, (norm.num_groups, -1)).flatten(3).float()
        variance, mean = torch.var_mean(grouped, dim=3, correction=0)
        mean, variance = self.group.moments(mean, variance, counts)
        width = x.shape[1] // norm.num_groups
        deviation = (variance + norm.eps).rsqrt().repeat_interleave(width, 1)
        scale = norm.weight * deviation
        shift = norm.bias - mean.repeat_interleave(width, 1) * scale
        scale, shift = (each.repeat(num_windows, 1)[..., None, None, None].to(x.dtype) for each in (scale, shift))
        return torch.addcmul(shift, x, scale)
