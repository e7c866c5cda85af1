"""Paste an object of the sprite sheet into a frame at any place, size and angle."""

from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from longtake.data.sprite_names import OBJECTS
from longtake.data.sprite_scenes import SIZE

CELL = 64
GLYPH = 57.6
"""Pixels of a 64-pixel cell that the object itself fills; the rest is room for its outline."""
_REDUCED = 44


@lru_cache
def sprite(name: str, mirrored: bool) -> Image.Image:
    """The object, premultiplied RGBA, reduced to about the size at which it is drawn."""
    index = OBJECTS.index(name)
    with files("longtake.data").joinpath("assets/sprites.png").open("rb") as file:
        sheet = Image.open(file).convert("RGBA")
    left, top = index % 4 * CELL, index // 4 * CELL
    cell = sheet.crop((left, top, left + CELL, top + CELL))
    if mirrored:
        cell = cell.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return cell.convert("RGBa").resize((_REDUCED, _REDUCED), Image.Resampling.HAMMING)


def paste(
    picture: NDArray[np.float32],
    name: str,
    *,
    centre: tuple[float, float],
    size: float,
    angle: float,
    mirrored: bool,
    tint: tuple[float, float, float],
) -> None:
    """Draw the object into `picture` (64, 64, 3; changed in place).

    `size` is its longer side in pixels, `angle` in radians counter-clockwise, `tint` multiplies its colours.
    """
    zoom = (_REDUCED * GLYPH / CELL) / size
    cos, sin = float(np.cos(angle)) * zoom, float(np.sin(angle)) * zoom
    x, y = centre
    middle = _REDUCED / 2
    inverse = (cos, -sin, middle - cos * x + sin * y, sin, cos, middle - sin * x - cos * y)
    drawn = sprite(name, mirrored).transform((SIZE, SIZE), Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR)
    pixels = np.asarray(drawn, dtype=np.float32)
    picture *= 1 - pixels[..., 3:] / 255
    picture += pixels[..., :3] * np.asarray(tint, dtype=np.float32)
