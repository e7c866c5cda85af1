"""Rotary positions of PVDM's autoencoder (Su et al., 2021, arXiv 2104.09864).

N tokens of a sequence, D channels of a head.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

FASTEST_TURNS = 5.0
"""The finest scale of the positions in a picture: half turns from its middle to its edge."""


@dataclass(frozen=True)
class Rotation:
    """An angle for every token and channel, as its cosine and sine (tokens, channels of a head)."""

    cosine: Tensor
    sine: Tensor

    def __call__(self, x_SNhD: Tensor) -> Tensor:
        """Turn neighbouring channels, taken as pairs, by the tokens' angles; x is (sequences, tokens, heads, width)."""
        cosine, sine = (table.to(x_SNhD)[:, None] for table in (self.cosine, self.sine))
        left, right = x_SNhD.unflatten(-1, (-1, 2)).unbind(-1)
        return x_SNhD * cosine + torch.stack([-right, left], dim=-1).flatten(-2) * sine


def over_time(num_frames: int, width: int, compat: bool, device: torch.device) -> Rotation:
    """Return the positions of frames.

    `compat` lays the angles out as two halves although pairs are neighbours, as the authors' code does: the two members
    of a pair turn by different angles, and attention depends on more than the distance in time.
    """
    frequency = 10000.0 ** (-torch.arange(0, width, 2, device=device) / width)
    angle_ND = torch.arange(num_frames, device=device)[:, None] * frequency
    return _rotation(torch.cat([angle_ND, angle_ND], dim=1) if compat else angle_ND.repeat_interleave(2, dim=1))


def over_space(rows: int, columns: int, width: int, device: torch.device) -> Rotation:
    """Return the positions of a picture's patches, row by row; half of the channels hold the row, half the column."""
    scale = torch.logspace(0, math.log2(FASTEST_TURNS), width // 4, base=2, device=device)
    row, column = (torch.linspace(-1, 1, num, device=device)[:, None] * scale * math.pi for num in (rows, columns))
    both = [row[:, None].expand(-1, columns, -1), column[None].expand(rows, -1, -1)]
    return _rotation(torch.cat(both, dim=2).flatten(0, 1).repeat_interleave(2, dim=1))


def _rotation(angle_ND: Tensor) -> Rotation:
    return Rotation(angle_ND.cos(), angle_ND.sin())
