"""Decoding a stream in tiles that overlap: a decoder then works on one of them at a time, and takes less memory.

Every tile is a stream of its own, with a memory of its own, so that a video decodes to the same frames however it is
cut in time. Where tiles overlap, one fades into the next. A decoder that looks farther than that, or at the whole
picture at once, makes other frames than without tiles, as it does where diffusers tiles it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from math import ceil, prod
from typing import TYPE_CHECKING, Any

from longtake.model import VideoSpec

if TYPE_CHECKING:
    from torch import Tensor

SIDE, SHARED = 512, 64
"""Pixels of a tile's side at most, and of what it has in common with its neighbours at least."""

Decode = Callable[["Tensor", Any, bool], tuple["Tensor", Any]]


def tiles_of(spec: VideoSpec) -> tuple[list[range], list[range]]:
    """Return the rows and the columns of latents that a model's frames are cut into."""
    pixels = spec.height // spec.latent_shape[2]
    rows, columns = (_spans(cells, max(2, SIDE // pixels), max(1, SHARED // pixels)) for cells in spec.latent_shape[2:])
    return rows, columns


def _spans(cells: int, side: int, shared: int) -> list[range]:
    """Return as few spans as cover so many cells, evenly, all of the same length."""
    count = 1 if cells <= side else ceil((cells - shared) / (side - shared))
    length = ceil((cells + (count - 1) * shared) / count)
    return [
        range(start, start + length)
        for start in (place * (cells - length) // max(1, count - 1) for place in range(count))
    ]


def tiled(spec: VideoSpec) -> VideoSpec:
    """Return the spec of the same model whose frames are decoded in tiles, and what that takes."""
    rows, columns = tiles_of(spec)
    number, cells, tile = len(rows) * len(columns), prod(spec.latent_shape[2:]), len(rows[0]) * len(columns[0])
    decoder, flops = spec.decoder, spec.decode_flops
    if decoder.working is not None and number > 1:
        # Beside those of a tile, the pixels that become of a latent, twice while they are put together.
        pixels = spec.timing.stride * 3 * spec.height * spec.width
        decoder = replace(decoder, working=decoder.working * tile // cells + 2 * pixels)
    decoder = replace(decoder, remembered=decoder.remembered * number * tile // cells, tiles=number)
    return replace(spec, decoder=decoder, decode_flops=flops and flops * number * tile // cells)


def in_tiles(decode: Decode, spec: VideoSpec, latents: "Tensor", state: Any, last: bool) -> tuple["Tensor", Any]:
    """Decode the next latents of a stream tile by tile, as `VideoModel.decode` does whole frames; `state` lists what
    the decoder remembers of each."""
    rows, columns = tiles_of(spec)
    states, after, whole = state or [None] * len(rows) * len(columns), [], None
    for row, column in product(range(len(rows)), range(len(columns))):
        high, wide = rows[row], columns[column]
        pixels, kept = decode(latents[..., high.start : high.stop, wide.start : wide.stop], states[len(after)], last)
        after.append(kept)
        unit = pixels.shape[-1] // len(wide)
        if whole is None:
            whole = pixels.new_zeros(*pixels.shape[:2], latents.shape[2] * unit, latents.shape[3] * unit)
        share = _faded(rows, row, unit, pixels)[:, None] * _faded(columns, column, unit, pixels)
        place = (..., slice(high.start * unit, high.stop * unit), slice(wide.start * unit, wide.stop * unit))
        whole[place] += pixels * share
    assert whole is not None
    return whole, after


def _faded(spans: Sequence[range], number: int, unit: int, like: "Tensor") -> "Tensor":
    """Return how much every pixel of a span counts, of which a cell has so many: those of all spans add up to 1."""
    import torch

    def weight(span: range, at: "Tensor") -> "Tensor":
        """Rise from the first pixel to the middle, and fall to the last; none beside."""
        inside = torch.minimum(at - span.start * unit + 1, span.stop * unit - at).clamp(min=0)
        return inside.clamp(max=SHARED)

    own = spans[number]
    at = torch.arange(own.start * unit, own.stop * unit, device=like.device)
    return (weight(own, at) / sum(weight(span, at) for span in spans)).to(like)
