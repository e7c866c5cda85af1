"""What both networks of PVDM share: latents as three planes and back, and layers that keep no activations.

B batch, C channels, P positions (cells of all planes), D width of a row, T frames, R rows, K columns of the grid.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from longtake.models.pvdm.config import Grid

Planes = tuple[Tensor, Tensor, Tensor]
"""z^s, z^h and z^w, each (batch, channels, height, width); see `Grid.planes`."""


def split(latent_BCP: Tensor, planes: Sequence[tuple[int, ...]]) -> Planes:
    """Return the planes with these sides that lie one after the other in a latent."""
    parts = latent_BCP.split([height * width for height, width in planes], dim=2)
    s, h, w = (part.unflatten(2, sides) for part, sides in zip(parts, planes, strict=True))
    return s, h, w


def join(planes: Planes) -> Tensor:
    """Return the planes as one latent (batch, channels, positions)."""
    return torch.cat([plane.flatten(2) for plane in planes], dim=2)


def each(function: Callable[[Tensor, Tensor], Tensor], planes: Planes, row_BD: Tensor) -> Planes:
    """Run a function of a plane and a row a sample on all three; planes of equal sides in one call, which is faster."""
    s, h, w = planes
    if h.shape != w.shape:
        return function(s, row_BD), function(h, row_BD), function(w, row_BD)
    h, w = function(torch.cat([h, w]), row_BD.repeat(2, 1)).chunk(2)
    return function(s, row_BD), h, w


def spread(planes: Planes, grid: Grid) -> Tensor:
    """Return the sum of the planes at every cell of the grid, (batch, channels, frames, rows, columns)."""
    s_BCRK, h_BCTK, w_BCTR = planes
    assert tuple(plane.shape[2:] for plane in planes) == grid.planes
    return s_BCRK[:, :, None] + h_BCTK[:, :, :, None] + w_BCTR[..., None]


def run(layer: Callable[..., Any], *inputs: Any, recompute: bool) -> Any:
    """Run a layer; with `recompute` its activations are computed again for the gradient rather than kept."""
    return checkpoint(layer, *inputs, use_reentrant=False) if recompute else layer(*inputs)
