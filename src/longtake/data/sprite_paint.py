"""The brushes of the sprite scenes: gradients, hills, clouds and dots as periodic layers that can scroll for ever."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE = 64
PERIOD = 128
MARGIN = 24
_OVERSAMPLE = 4

Floats = NDArray[np.float32]
Paint = Callable[[ImageDraw.ImageDraw, float], None]
"""Draws one period of a layer, moved right by a number of pixels."""
Shape = Callable[[ImageDraw.ImageDraw, float, float, int], None]
"""Draws one of many shapes of a layer: centre, and the number of the shape."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One periodic picture of a scene and how it moves."""

    texture: Floats
    """Premultiplied RGBA, 0 to 255 with alpha 0 to 1, one period plus one screen wide (and high, if `endless_y`)."""
    speed: float = 1.0
    """Parallax: share of the camera's way that the layer scrolls."""
    endless_y: bool = False
    """Scrolls vertically for ever; otherwise it stands on the horizon."""
    drift: tuple[float, float] = (0.0, 0.0)
    """Own movement in pixels per frame, right and down."""
    sway: float = 0.0
    """Amplitude in pixels of a swing to and fro with a period of 20 frames."""
    twinkle: float = 0.0
    """Depth, 0 to 1, of a change of brightness with a period of 18 frames."""
    phase: float = 0.0
    """Phase of sway and twinkle in radians."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A gradient and the layers before it, back to front."""

    sky: Floats
    """Gradient, one row of colour per pixel row: (64, 1, 3)."""
    layers: tuple[Layer, ...]
    """Back to front."""


def gradient(*colours: str) -> Floats:
    """Rows of colour from top to bottom through evenly spaced `#rrggbb` colours: (64, 1, 3)."""
    stops = np.array([_rgb(colour) for colour in colours], dtype=np.float32)
    at = np.linspace(0, len(stops) - 1, SIZE)
    rows = np.stack([np.interp(at, np.arange(len(stops)), stops[:, channel]) for channel in range(3)], axis=-1)
    return rows[:, None, :].astype(np.float32)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _texture(paint: Paint, *, height: int) -> Floats:
    """Draw one period at four times the size (wrapping at its edges) and reduce it to premultiplied RGBA."""
    many = _OVERSAMPLE
    image = Image.new("RGBA", (PERIOD * many, height * many))
    draw = ImageDraw.Draw(image)
    for turn in (-1, 0, 1):
        paint(draw, turn * PERIOD)
    pixels = np.asarray(image, dtype=np.float32)
    alpha = pixels[..., 3:] / 255
    pixels = np.concatenate([pixels[..., :3] * alpha, alpha], axis=-1)
    return pixels.reshape(height, many, PERIOD, many, 4).mean(axis=(1, 3))


def band(paint: Paint, **how: float) -> Layer:
    """A layer that stands on the horizon; `how` are fields of Layer."""
    texture = _texture(paint, height=SIZE + 2 * MARGIN + 1)
    return Layer(texture=_wrapped(texture, vertical=False), **how)  # pyright: ignore[reportArgumentType]


def scatter(shape: Shape, *, seed: int, cells: int, **how) -> Layer:
    """A layer with `cells` x `cells` shapes on a jittered grid, endless in both directions."""
    rng = np.random.default_rng(seed)
    pitch = PERIOD / cells
    places = [
        ((column + rng.uniform(0.1, 0.9)) * pitch, (row + rng.uniform(0.2, 0.8)) * pitch, row * cells + column)
        for row in range(cells)
        for column in range(cells)
    ]

    def paint(draw: ImageDraw.ImageDraw, turn: float) -> None:
        for x, y, number in places:
            for turn_y in (-PERIOD, 0, PERIOD):
                shape(draw, x + turn, y + turn_y, number)

    return Layer(texture=_wrapped(_texture(paint, height=PERIOD), vertical=True), endless_y=True, **how)


def _wrapped(texture: Floats, *, vertical: bool) -> Floats:
    extra = SIZE + 1
    texture = np.concatenate([texture, texture[:, :extra]], axis=1)
    return np.concatenate([texture, texture[:extra]], axis=0) if vertical else texture


def box(draw: ImageDraw.ImageDraw, x: float, y: float, width: float, height: float, colour: str) -> None:
    """Fill a rectangle given by its left upper corner and size in pixels."""
    draw.rectangle([value * _OVERSAMPLE for value in (x, y, x + width, y + height)], fill=colour)


def disc(draw: ImageDraw.ImageDraw, x: float, y: float, rx: float, colour: str, ry: float | None = None) -> None:
    """Fill a circle, or with `ry` an ellipse, around (x, y)."""
    ry = rx if ry is None else ry
    draw.ellipse([value * _OVERSAMPLE for value in (x - rx, y - ry, x + rx, y + ry)], fill=colour)


def polygon(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], colour: str) -> None:
    """Fill a polygon."""
    draw.polygon([(x * _OVERSAMPLE, y * _OVERSAMPLE) for x, y in points], fill=colour)


def hills(
    draw: ImageDraw.ImageDraw, turn: float, top: float, waves: tuple[tuple[int, float], ...], colour: str
) -> None:
    """Fill everything below a sum of sines, each given as (bumps per period, amplitude); `top` in screen rows."""
    xs = np.arange(0, PERIOD + 1)
    ys = np.full(len(xs), MARGIN + top)
    for bumps, size in waves:
        ys = ys + size * np.sin(2 * np.pi * (bumps * xs / PERIOD + 0.13 * bumps))
    outline = [(x + turn, float(y)) for x, y in zip(xs, ys, strict=True)]
    bottom = SIZE + 2 * MARGIN + 4
    polygon(draw, [*outline, (PERIOD + turn, bottom), (turn, bottom)], colour)


def cloud(colour: str, size: float = 1.0) -> Shape:
    """A cloud of three puffs, in three sizes by number."""

    def shape(draw: ImageDraw.ImageDraw, x: float, y: float, number: int) -> None:
        grow = size * (1 + 0.25 * (number % 3))
        for dx, dy, radius in ((-5, 1, 3.2), (0, -1.5, 4.6), (5, 1, 3.4)):
            disc(draw, x + dx * grow, y + dy * grow, radius * grow, colour)
        box(draw, x - 6 * grow, y + 1.5 * grow, 12 * grow, 2.6 * grow, colour)

    return shape


def dots(radius: float, *colours: str) -> Shape:
    """A disc; colours and sizes change with its number."""

    def shape(draw: ImageDraw.ImageDraw, x: float, y: float, number: int) -> None:
        disc(draw, x, y, radius * (0.8 + 0.2 * (number % 3)), colours[number % len(colours)])

    return shape


def ring(radius: float, colour: str, inner: str) -> Shape:
    """A bubble."""

    def shape(draw: ImageDraw.ImageDraw, x: float, y: float, number: int) -> None:
        size = radius * (0.8 + 0.3 * (number % 3))
        disc(draw, x, y, size, colour)
        disc(draw, x, y, size - 1.0, inner)
        disc(draw, x - size * 0.3, y - size * 0.3, 0.8, colour)

    return shape
