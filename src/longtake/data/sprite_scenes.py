"""The ten scenes of the sprite worlds: gradients and periodic layers that can scroll for ever."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE = 64
PERIOD = 128
MARGIN = 24
_OVERSAMPLE = 4

Floats = NDArray[np.float32]
Paint = Callable[[ImageDraw.ImageDraw, float], None]


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


def _gradient(*colours: str) -> Floats:
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


def _band(paint: Paint, **how: float) -> Layer:
    texture = _texture(paint, height=SIZE + 2 * MARGIN + 1)
    return Layer(texture=_wrapped(texture, vertical=False), **how)  # pyright: ignore[reportArgumentType]


def _scatter(shape: Callable[[ImageDraw.ImageDraw, float, float, int], None], *, seed: int, cells: int, **how) -> Layer:
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


def _box(draw: ImageDraw.ImageDraw, x: float, y: float, width: float, height: float, colour: str) -> None:
    box = [value * _OVERSAMPLE for value in (x, y, x + width, y + height)]
    draw.rectangle(box, fill=colour)


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, rx: float, colour: str, ry: float | None = None) -> None:
    ry = rx if ry is None else ry
    draw.ellipse([value * _OVERSAMPLE for value in (x - rx, y - ry, x + rx, y + ry)], fill=colour)


def _poly(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], colour: str) -> None:
    draw.polygon([(x * _OVERSAMPLE, y * _OVERSAMPLE) for x, y in points], fill=colour)


def _hills(draw: ImageDraw.ImageDraw, turn: float, top: float, waves: tuple[tuple[int, float], ...], colour: str) -> None:
    """Fill everything below a sum of sines, each given as (bumps per period, amplitude); `top` in screen rows."""
    xs = np.arange(0, PERIOD + 1)
    ys = MARGIN + top + sum(size * np.sin(2 * np.pi * (bumps * xs / PERIOD + 0.13 * bumps)) for bumps, size in waves)
    outline = [(x + turn, float(y)) for x, y in zip(xs, ys, strict=True)]
    bottom = SIZE + 2 * MARGIN + 4
    _poly(draw, [*outline, (PERIOD + turn, bottom), (turn, bottom)], colour)


def _cloud(colour: str, size: float = 1.0) -> Callable[[ImageDraw.ImageDraw, float, float, int], None]:
    def shape(draw: ImageDraw.ImageDraw, x: float, y: float, number: int) -> None:
        grow = size * (1 + 0.25 * (number % 3))
        for dx, dy, radius in ((-5, 1, 3.2), (0, -1.5, 4.6), (5, 1, 3.4)):
            _disc(draw, x + dx * grow, y + dy * grow, radius * grow, colour)
        _box(draw, x - 6 * grow, y + 1.5 * grow, 12 * grow, 2.6 * grow, colour)

    return shape


def _dots(radius: float, *colours: str) -> Callable[[ImageDraw.ImageDraw, float, float, int], None]:
    def shape(draw: ImageDraw.ImageDraw, x: float, y: float, number: int) -> None:
        _disc(draw, x, y, radius * (0.8 + 0.2 * (number % 3)), colours[number % len(colours)])

    return shape


def _ring(radius: float, colour: str, inner: str) -> Callable[[ImageDraw.ImageDraw, float, float, int], None]:
    def shape(draw: ImageDraw.ImageDraw, x: float, y: float, number: int) -> None:
        size = radius * (0.8 + 0.3 * (number % 3))
        _disc(draw, x, y, size, colour)
        _disc(draw, x, y, size - 1.0, inner)
        _disc(draw, x - size * 0.3, y - size * 0.3, 0.8, colour)

    return shape


def _night_sky() -> Scene:
    def moon(draw: ImageDraw.ImageDraw, turn: float) -> None:
        _disc(draw, 51 + turn, MARGIN + 12, 8, "#fff2b8")
        _disc(draw, 54 + turn, MARGIN + 10, 2, "#e8d48c")
        _disc(draw, 48 + turn, MARGIN + 14.5, 1.6, "#e8d48c")

    return Scene(
        sky=_gradient("#070b33", "#16236b", "#3450a8"),
        layers=(
            _scatter(_dots(1.3, "#ffffff", "#ffe9a8"), seed=1, cells=7, speed=0.8, drift=(0.1, 0.0), twinkle=0.9),
            _scatter(_dots(1.7, "#cfe0ff"), seed=2, cells=5, speed=1.0, twinkle=0.9, phase=2.5),
            _band(moon, speed=0.0),
            _band(lambda draw, turn: _hills(draw, turn, 55, ((2, 3), (3, 2)), "#060a24"), speed=1.0),
        ),
    )


def _sea() -> Scene:
    return Scene(
        sky=_gradient("#a9d4f5", "#e8f6ff", "#ffffff"),
        layers=(
            _scatter(_cloud("#ffffff"), seed=3, cells=4, speed=0.8, drift=(0.3, 0.0)),
            _band(lambda draw, turn: _hills(draw, turn, 36, ((8, 1.2),), "#3f8fe0"), speed=0.5, sway=2.0, phase=2.0),
            _band(lambda draw, turn: _hills(draw, turn, 44, ((6, 2.0),), "#1f66c9"), speed=0.8, sway=3.0),
            _band(lambda draw, turn: _hills(draw, turn, 54, ((5, 2.4),), "#123f94"), speed=1.1, sway=3.0, phase=3.0),
        ),
    )


def _underwater() -> Scene:
    def weeds(draw: ImageDraw.ImageDraw, turn: float) -> None:
        for number, x in enumerate(range(6, PERIOD, 18)):
            tall = 14 + 5 * (number % 3)
            for step in range(tall):
                bend = 2.2 * np.sin(step / 3.0 + number)
                _disc(draw, x + turn + bend, MARGIN + 60 - step, 2.3 - 1.4 * step / tall, "#0c7a5a")

    return Scene(
        sky=_gradient("#5fe0dc", "#14a0ae", "#075a78"),
        layers=(
            _band(lambda draw, turn: _hills(draw, turn, 50, ((2, 4),), "#0a6c84"), speed=0.5),
            _band(weeds, speed=0.9, sway=2.0),
            _band(lambda draw, turn: _hills(draw, turn, 58, ((3, 1.5),), "#d9c48a"), speed=1.0),
            _scatter(_ring(2.6, "#e8ffff", "#7fdde0"), seed=5, cells=5, speed=0.9, drift=(0.0, -0.45)),
        ),
    )


def _desert() -> Scene:
    def cacti(draw: ImageDraw.ImageDraw, turn: float) -> None:
        for x, tall in ((14, 13), (60, 10), (97, 14)):
            top = MARGIN + 52 - tall
            for dx, dy, width, height in ((-1.5, 0, 3.4, 16), (-5.5, 3, 2.6, 5), (-5.5, 6, 5, 2.4), (3, 2, 2.6, 5)):
                _box(draw, x + turn + dx, top + dy, width, height, "#2f8f46")
            _box(draw, x + turn, top + 5, 5.6, 2.4, "#2f8f46")

    return Scene(
        sky=_gradient("#ff9a3c", "#ffc46b", "#ffe9b0"),
        layers=(
            _band(lambda draw, turn: _disc(draw, 14 + turn, MARGIN + 13, 7, "#fff6c2"), speed=0.0),
            _scatter(_cloud("#fff0cf", 0.8), seed=6, cells=4, speed=0.8, drift=(0.35, 0.0)),
            _band(lambda draw, turn: _hills(draw, turn, 43, ((2, 4), (3, 1.5)), "#e39a45"), speed=0.5),
            _band(cacti, speed=1.0),
            _band(lambda draw, turn: _hills(draw, turn, 53, ((3, 2.5),), "#c26a22"), speed=1.0),
        ),
    )


def _meadow() -> Scene:
    def flowers(draw: ImageDraw.ImageDraw, turn: float) -> None:
        for number, x in enumerate(range(4, PERIOD, 11)):
            y = MARGIN + 55 + 4 * (number % 2)
            _box(draw, x + turn - 0.6, y, 1.2, 6, "#1f7a26")
            _disc(draw, x + turn, y, 2.2, ("#ff4f6d", "#ffe14d", "#ffffff")[number % 3])

    return Scene(
        sky=_gradient("#4fb4ff", "#9ad8ff", "#d6f1ff"),
        layers=(
            _scatter(_cloud("#ffffff", 0.9), seed=7, cells=4, speed=0.8, drift=(0.35, 0.0)),
            _band(lambda draw, turn: _hills(draw, turn, 42, ((2, 4), (5, 1)), "#a4dd5a"), speed=0.5),
            _band(lambda draw, turn: _hills(draw, turn, 51, ((3, 2.5),), "#4fb63a"), speed=0.9),
            _band(flowers, speed=1.0, sway=1.6),
        ),
    )


def _city() -> Scene:
    def blocks(colour: str, top: float, seed: int, window: str | None) -> Paint:
        heights = np.random.default_rng(seed).uniform(-9, 9, 8)

        def paint(draw: ImageDraw.ImageDraw, turn: float) -> None:
            for number, height in enumerate(heights):
                x, y = number * 16 + turn, MARGIN + top + height
                if window is None:
                    _box(draw, x, y, 14 + 3 * (number % 2), 90, colour)
                else:
                    for row in range(4):
                        for column in range(2):
                            if (number + row + column) % 3:
                                _box(draw, x + 3 + 5.5 * column, y + 4 + 6 * row, 2.6, 3, window)

        return paint

    return Scene(
        sky=_gradient("#f06aa0", "#ff9f9a", "#ffd9a0"),
        layers=(
            _scatter(_cloud("#ffd3dc", 0.8), seed=8, cells=4, speed=0.8, drift=(0.35, 0.0)),
            _band(blocks("#a678b8", 36, 9, None), speed=0.5),
            _band(blocks("#4a3a78", 44, 10, None), speed=1.0),
            _band(blocks("#4a3a78", 44, 10, "#ffd84f"), speed=1.0, twinkle=0.6),
        ),
    )


def _snowy_mountains() -> Scene:
    def peaks(draw: ImageDraw.ImageDraw, turn: float) -> None:
        for x, top, wide in ((12, 20, 26), (52, 27, 24), (88, 16, 30), (120, 28, 20)):
            x, top = x + turn, top + MARGIN
            _poly(draw, [(x, top), (x + wide, 110), (x - wide, 110)], "#6f88bd")
            cap = 0.2
            _poly(
                draw,
                [(x, top), (x + wide * cap, top + 16), (x, top + 12), (x - wide * cap, top + 16)],
                "#ffffff",
            )

    return Scene(
        sky=_gradient("#b9bfe6", "#d9def5", "#f3f5ff"),
        layers=(
            _band(peaks, speed=0.6),
            _band(lambda draw, turn: _hills(draw, turn, 52, ((2, 3), (3, 1.5)), "#f4f8ff"), speed=1.0),
            _scatter(_dots(1.5, "#ffffff"), seed=11, cells=7, speed=1.0, drift=(0.3, 0.4)),
        ),
    )


def _forest() -> Scene:
    def trees(colour: str, leaf: str, pitch: int, shift: int, wide: float) -> Paint:
        def paint(draw: ImageDraw.ImageDraw, turn: float) -> None:
            for number, x in enumerate(range(shift, PERIOD, pitch)):
                top = MARGIN + 14 + 5 * (number % 2)
                _box(draw, x + turn - wide / 4, top, wide / 2, 100, colour)
                for step in range(3):
                    y = top - 12 + step * 9
                    _poly(draw, [(x + turn, y), (x + turn + wide, y + 16), (x + turn - wide, y + 16)], leaf)

        return paint

    return Scene(
        sky=_gradient("#0f5b3c", "#3fa35c", "#b5dc7c"),
        layers=(
            _band(trees("#2b5a3a", "#1f7a48", 32, 8, 10), speed=0.5),
            _band(trees("#5b3716", "#0b4a2b", 64, 30, 14), speed=1.0),
            _band(lambda draw, turn: _hills(draw, turn, 57, ((4, 1.5),), "#3b2a12"), speed=1.0),
            _scatter(_dots(1.6, "#f7ff8a", "#ffe066"), seed=12, cells=5, speed=1.0, drift=(0.25, 0.15), twinkle=0.7),
        ),
    )


def _beach() -> Scene:
    def palms(draw: ImageDraw.ImageDraw, turn: float) -> None:
        for x, top in ((20, 22), (84, 26)):
            for step in range(34):
                _disc(draw, x + turn + 5 * np.sin(step / 22), MARGIN + top + step, 1.6, "#8a5a2b")
            for angle in (-2.9, -2.2, -1.3, -0.6, 0.1, 3.3):
                tip = (x + turn + 13 * np.cos(angle), MARGIN + top + 9 * np.sin(angle) + 4)
                _poly(
                    draw, [(x + turn, MARGIN + top - 2), tip, (x + turn, MARGIN + top + 3)], "#149a4a"
                )
        for x in (52, 116):
            _box(draw, x + turn - 0.6, MARGIN + 44, 1.2, 12, "#ffffff")
            _poly(draw, [(x + turn - 9, MARGIN + 46), (x + turn, MARGIN + 38), (x + turn + 9, MARGIN + 46)], "#ff4d4d")
            _poly(draw, [(x + turn - 3, MARGIN + 46), (x + turn, MARGIN + 38), (x + turn + 3, MARGIN + 46)], "#ffffff")

    return Scene(
        sky=_gradient("#17c9c9", "#7fe9dc", "#e2fff4"),
        layers=(
            _scatter(_cloud("#ffffff", 0.8), seed=13, cells=4, speed=0.8, drift=(0.3, 0.0)),
            _band(lambda draw, turn: _hills(draw, turn, 38, ((8, 0.8),), "#0e9fb8"), speed=0.5, sway=2.0),
            _band(lambda draw, turn: _hills(draw, turn, 46, ((5, 1.3),), "#ffffff"), speed=0.9, sway=2.0, phase=2.0),
            _band(lambda draw, turn: _hills(draw, turn, 48, ((5, 1.3),), "#f7dc8b"), speed=1.0),
            _band(palms, speed=1.0),
        ),
    )


def _space() -> Scene:
    def planet(draw: ImageDraw.ImageDraw, turn: float) -> None:
        _disc(draw, 14 + turn, MARGIN + 13, 12, "#ffd08a", 3.4)
        _disc(draw, 14 + turn, MARGIN + 13, 10, "#7a1f9a", 2.0)
        _disc(draw, 14 + turn, MARGIN + 13, 7, "#ff8f3f")
        _disc(draw, 15 + turn, MARGIN + 11, 5, "#ffab5e")

    def nebula(draw: ImageDraw.ImageDraw, turn: float) -> None:
        for x, y, radius in ((20, 58, 22), (64, 70, 26), (104, 60, 24)):
            _disc(draw, x + turn, MARGIN + y, radius, "#c2299a", radius * 0.6)

    return Scene(
        sky=_gradient("#2a0550", "#5a0f8a", "#8a1fb0"),
        layers=(
            _band(nebula, speed=0.5),
            _scatter(_dots(1.3, "#ffffff", "#9ff0ff"), seed=14, cells=7, speed=0.8, twinkle=0.9),
            _band(planet, speed=0.0),
            _scatter(_dots(3.0, "#5fd0e8", "#ff7fb8", "#c9a0ff"), seed=15, cells=3, speed=1.1, drift=(0.3, 0.0)),
        ),
    )


_BUILDERS: dict[str, Callable[[], Scene]] = {
    "night sky": _night_sky,
    "sea": _sea,
    "underwater": _underwater,
    "desert": _desert,
    "meadow": _meadow,
    "city": _city,
    "snowy mountains": _snowy_mountains,
    "forest": _forest,
    "beach": _beach,
    "space": _space,
}


@lru_cache
def scene(name: str) -> Scene:
    """The scene called `name` (from SCENES), drawn once per process."""
    return _BUILDERS[name]()


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
    return part


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
