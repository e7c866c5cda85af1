"""Pictures on the way, laid out."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate


def sheet(rows: Float[Tensor, "rows columns 3 height width"]) -> Float[Tensor, "3 sheet_height sheet_width"]:
    """Return pictures in [0, 1] as one, twice as large."""
    grid = rows.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    return interpolate(grid[None], scale_factor=2)[0].clamp(0, 1)


def above(
    pictures: Float[Tensor, "rows columns 3 height width"], others: Float[Tensor, "rows columns 3 height width"]
) -> Float[Tensor, "pairs columns 3 height width"]:
    """Return rows in turn of both."""
    return torch.stack([pictures, others], dim=1).flatten(0, 1)
