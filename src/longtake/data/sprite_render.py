"""Draw one frame of a sprite world: its scenery, and before it the object at any place, size and angle."""

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from longtake.data.sprite_captions import OBJECTS
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


@dataclass(frozen=True, kw_only=True)
class Pose:
    """An object, and how it is drawn."""

    name: str
    """Name from OBJECTS."""
    x: float
    """Centre of the object, pixels from the left."""
    y: float
    """Centre of the object, pixels from the top."""
    size: float
    """Longer side of the object in pixels."""
    angle: float
    """Counter-clockwise turn of the object in radians."""
    mirrored: bool = False
    """Whether the object faces left."""
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Factors on the object's red, green and blue."""

    def draw(self, left: int = 0, top: int = 0, side: tuple[int, int] = (SIZE, SIZE)) -> Floats:
        """Return the object alone before its tint, premultiplied RGBA, 0 to 255: the part of the picture from `left`
        and `top` on of this width and height, (height, width, 4)."""
        zoom = (_REDUCED * GLYPH / CELL) / self.size
        cos, sin = float(np.cos(self.angle)) * zoom, float(np.sin(self.angle)) * zoom
        x, y = self.x - left, self.y - top
        middle = _REDUCED / 2
        inverse = (cos, -sin, middle - cos * x + sin * y, sin, cos, middle - sin * x - cos * y)
        drawn = sprite(self.name, self.mirrored)
        picture = drawn.transform(side, Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR)
        return np.asarray(picture, dtype=np.float32)

    def paste(self, picture: NDArray[np.float32]) -> None:
        """Draw the object into `picture` (64, 64, 3; changed in place)."""
        pixels = self.draw()
        picture *= 1 - pixels[..., 3:] / 255
        picture += pixels[..., :3] * np.asarray(self.tint, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Where a layer's texture is cut, and how bright it is."""

    x: float
    """Columns into the texture, 0 to PERIOD."""
    y: float
    """Rows into the texture."""
    gain: float = 1.0
    """Factor of its twinkling on colour and alpha."""


def placed(layer: Layer, frame: int, camera: tuple[float, float], lower: float) -> Placed:
    """Where a layer stands at this frame and camera position, with the horizon `lower` pixels down."""
    wave = np.sin(2 * np.pi * frame / 20 + layer.phase)
    x = (camera[0] * layer.speed - layer.drift[0] * frame + layer.sway * wave) % PERIOD
    y = (camera[1] * layer.speed - layer.drift[1] * frame) % PERIOD if layer.endless_y else standing(layer, lower)
    gain = 1 - layer.twinkle * (0.5 + 0.5 * np.sin(2 * np.pi * frame / 18 + layer.phase))
    return Placed(x=x, y=y, gain=float(gain))


def standing(layer: Layer, lower: float) -> float:
    """Row of the texture at which a layer on the horizon is cut; what does not scroll keeps its place."""
    return min(max(MARGIN - (lower if layer.speed else 0.0), 0.0), 2.0 * MARGIN)


def cut(layer: Layer, place: Placed) -> Floats:
    """The layer's 64x64 premultiplied RGBA at this place, moved by fractions of a pixel."""
    column, row = int(place.x), int(place.y)
    part = layer.texture[row : row + SIZE + 1, column : column + SIZE + 1]
    part = part[:, :-1] + np.float32(place.x - column) * (part[:, 1:] - part[:, :-1])
    part = part[:-1] + np.float32(place.y - row) * (part[1:] - part[:-1])
    if layer.twinkle:
        part *= np.float32(place.gain)
    return part.astype(np.float32, copy=False)


def draw_scene(name: str, frame: int, camera: tuple[float, float], lower: float, light: tuple[float, ...]) -> Floats:
    """Paint a scene, float32 (64, 64, 3) in 0 to 255.

    `camera` is the place on the map in pixels (right, down), `lower` moves the horizon down by so many pixels,
    `light` multiplies red, green and blue.
    """
    place = scene(name)
    picture = np.repeat(place.sky, SIZE, axis=1)
    for layer in place.layers:
        part = cut(layer, placed(layer, frame, camera, lower))
        picture *= 1 - part[..., 3:]
        picture += part[..., :3]
    return picture * np.asarray(light, dtype=np.float32)
