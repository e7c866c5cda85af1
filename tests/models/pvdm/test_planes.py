"""Latents as three planes, and back."""

import torch

from longtake.models.pvdm.config import Grid
from longtake.models.pvdm.planes import each, join, split, spread

GRID = Grid(frames=3, rows=2, columns=4)


def test_split_and_join() -> None:
    latent = torch.arange(2.0 * 4 * 26).view(2, 4, 26)
    planes = split(latent, GRID.planes)
    assert [tuple(plane.shape) for plane in planes] == [(2, 4, 2, 4), (2, 4, 3, 4), (2, 4, 3, 2)]
    assert torch.equal(join(planes), latent)
    assert GRID.positions == 26


def test_each_cell_of_a_plane_lies_along_the_axis_that_was_folded() -> None:
    for plane, folded in enumerate(("frames", "rows", "columns")):
        latents = torch.zeros(3, 1, 1, 26)
        planes = [list(split(latent, GRID.planes)) for latent in latents]
        planes[plane][plane][0, 0, 0, 0] = 1
        s, h, w = planes[plane]
        reached = spread((s, h, w), GRID)[0, 0].nonzero()
        sides = dict(zip(("frames", "rows", "columns"), (len(axis.unique()) for axis in reached.T), strict=True))
        assert sides == {axis: getattr(GRID, axis) if axis == folded else 1 for axis in sides}


def test_each_gives_every_plane_its_sample_s_row() -> None:
    row = torch.tensor([[10.0], [20.0]])
    for grid in (GRID, Grid(frames=3, rows=4, columns=4)):
        latent = torch.randn(2, 4, grid.positions)
        added = each(lambda plane, row: plane + row[..., None, None], split(latent, grid.planes), row)
        assert torch.allclose(join(added), latent + row[..., None])
