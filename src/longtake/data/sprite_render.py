"""Draw one frame of a sprite world: its scenery, and before it the object at any place, size and angle."""

from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from longtake.data.sprite_names import OBJECTS
from longtake.data.sprite_paint import MARGIN, PERIOD, SIZE, Floats, Layer
from longtake.data.sprite_scenes import scene

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


def _window(layer: Layer, frame: int, camera_x: float, camera_y: float, lower: float) -> Floats:
    """The layer's 64x64 premultiplied RGBA at this camera position, moved by fractions of a pixel."""
    wave = np.sin(2 * np.pi * frame / 20 + layer.phase)
    x = (camera_x * layer.speed - layer.drift[0] * frame + layer.sway * wave) % PERIOD
    if layer.endless_y:
        y = (camera_y * layer.speed - layer.drift[1] * frame) % PERIOD
    else:
        y = min(max(MARGIN - (lower if layer.speed else 0.0), 0.0), 2.0 * MARGIN)
    column, row = int(x), int(y)
    part = layer.texture[row : row + SIZE + 1, column : column + SIZE + 1]
    part = part[:, :-1] + np.float32(x - column) * (part[:, 1:] - part[:, :-1])
    part = part[:-1] + np.float32(y - row) * (part[1:] - part[:-1])
    if layer.twinkle:
        part *= np.float32(1 - layer.twinkle * (0.5 + 0.5 * np.sin(2 * np.pi * frame / 18 + layer.phase)))
    return part.astype(np.float32, copy=False)


def draw_scene(name: str, frame: int, camera: tuple[float, float], lower: float, light: tuple[float, ...]) -> Floats:
    """Paint a scene, float32 (64, 64, 3) in 0 to 255.

    `camera` is the place on the map in pixels (right, down), `lower` moves the horizon down by so many pixels,
    `light` multiplies red, green and blue.
    """
    place = scene(name)
    picture = np.repeat(place.sky, SIZE, axis=1)
    for layer in place.layers:
        part = _window(layer, frame, camera[0], camera[1], lower)
        picture *= 1 - part[..., 3:]
        picture += part[..., :3]
    return picture * np.asarray(light, dtype=np.float32)
