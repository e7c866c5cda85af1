"""The ten scenes of the sprite worlds: clean pictures of a few large shapes, each with a palette of its own."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import ImageDraw

from longtake.data.sprite_paint import (
    MARGIN,
    PERIOD,
    Paint,
    Scene,
    band,
    box,
    cloud,
    disc,
    dots,
    gradient,
    hills,
    polygon,
    ring,
    scatter,
)  # fmt: skip


def _night_sky() -> Scene:
    def moon(draw: ImageDraw.ImageDraw, turn: float) -> None:
        disc(draw, 51 + turn, MARGIN + 12, 8, "#fff2b8")
        disc(draw, 54 + turn, MARGIN + 10, 2, "#e8d48c")
        disc(draw, 48 + turn, MARGIN + 14.5, 1.6, "#e8d48c")

    return Scene(
        sky=gradient("#070b33", "#16236b", "#3450a8"),
        layers=(
            scatter(dots(1.3, "#ffffff", "#ffe9a8"), seed=1, cells=7, speed=0.8, drift=(0.1, 0.0), twinkle=0.9),
            scatter(dots(1.7, "#cfe0ff"), seed=2, cells=5, speed=1.0, twinkle=0.9, phase=2.5),
            band(moon, speed=0.0),
            band(lambda draw, turn: hills(draw, turn, 55, ((2, 3), (3, 2)), "#060a24"), speed=1.0),
        ),
    )


def _sea() -> Scene:
    return Scene(
        sky=gradient("#a9d4f5", "#e8f6ff", "#ffffff"),
        layers=(
            scatter(cloud("#ffffff"), seed=3, cells=4, speed=0.8, drift=(0.3, 0.0)),
            band(lambda draw, turn: hills(draw, turn, 36, ((8, 1.2),), "#3f8fe0"), speed=0.5, sway=2.0, phase=2.0),
            band(lambda draw, turn: hills(draw, turn, 44, ((6, 2.0),), "#1f66c9"), speed=0.8, sway=3.0),
            band(lambda draw, turn: hills(draw, turn, 54, ((5, 2.4),), "#123f94"), speed=1.1, sway=3.0, phase=3.0),
        ),
    )


def _underwater() -> Scene:
    def weeds(draw: ImageDraw.ImageDraw, turn: float) -> None:
        for number, x in enumerate(range(6, PERIOD, 18)):
            tall = 14 + 5 * (number % 3)
            for step in range(tall):
                bend = 2.2 * np.sin(step / 3.0 + number)
                disc(draw, x + turn + bend, MARGIN + 60 - step, 2.3 - 1.4 * step / tall, "#0c7a5a")

    return Scene(
        sky=gradient("#5fe0dc", "#14a0ae", "#075a78"),
        layers=(
            band(lambda draw, turn: hills(draw, turn, 50, ((2, 4),), "#0a6c84"), speed=0.5),
            band(weeds, speed=0.9, sway=2.0),
            band(lambda draw, turn: hills(draw, turn, 58, ((3, 1.5),), "#d9c48a"), speed=1.0),
            scatter(ring(2.6, "#e8ffff", "#7fdde0"), seed=5, cells=5, speed=0.9, drift=(0.0, -0.45)),
        ),
    )


def _desert() -> Scene:
    def cacti(draw: ImageDraw.ImageDraw, turn: float) -> None:
        for x, tall in ((14, 13), (60, 10), (97, 14)):
            top = MARGIN + 52 - tall
            for dx, dy, width, height in ((-1.5, 0, 3.4, 16), (-5.5, 3, 2.6, 5), (-5.5, 6, 5, 2.4), (3, 2, 2.6, 5)):
                box(draw, x + turn + dx, top + dy, width, height, "#2f8f46")
            box(draw, x + turn, top + 5, 5.6, 2.4, "#2f8f46")

    return Scene(
        sky=gradient("#ff9a3c", "#ffc46b", "#ffe9b0"),
        layers=(
            band(lambda draw, turn: disc(draw, 14 + turn, MARGIN + 13, 7, "#fff6c2"), speed=0.0),
            scatter(cloud("#fff0cf", 0.8), seed=6, cells=4, speed=0.8, drift=(0.35, 0.0)),
            band(lambda draw, turn: hills(draw, turn, 43, ((2, 4), (3, 1.5)), "#e39a45"), speed=0.5),
            band(cacti, speed=1.0),
            band(lambda draw, turn: hills(draw, turn, 53, ((3, 2.5),), "#c26a22"), speed=1.0),
        ),
    )


def _meadow() -> Scene:
    def flowers(draw: ImageDraw.ImageDraw, turn: float) -> None:
        for number, x in enumerate(range(4, PERIOD, 11)):
            y = MARGIN + 55 + 4 * (number % 2)
            box(draw, x + turn - 0.6, y, 1.2, 6, "#1f7a26")
            disc(draw, x + turn, y, 2.2, ("#ff4f6d", "#ffe14d", "#ffffff")[number % 3])

    return Scene(
        sky=gradient("#4fb4ff", "#9ad8ff", "#d6f1ff"),
        layers=(
            scatter(cloud("#ffffff", 0.9), seed=7, cells=4, speed=0.8, drift=(0.35, 0.0)),
            band(lambda draw, turn: hills(draw, turn, 42, ((2, 4), (5, 1)), "#a4dd5a"), speed=0.5),
            band(lambda draw, turn: hills(draw, turn, 51, ((3, 2.5),), "#4fb63a"), speed=0.9),
            band(flowers, speed=1.0, sway=1.6),
        ),
    )


def _city() -> Scene:
    def blocks(colour: str, top: float, seed: int, window: str | None) -> Paint:
        heights = np.random.default_rng(seed).uniform(-9, 9, 8)

        def paint(draw: ImageDraw.ImageDraw, turn: float) -> None:
            for number, height in enumerate(heights):
                x, y = number * 16 + turn, MARGIN + top + height
                if window is None:
                    box(draw, x, y, 14 + 3 * (number % 2), 90, colour)
                else:
                    for row in range(4):
                        for column in range(2):
                            if (number + row + column) % 3:
                                box(draw, x + 3 + 5.5 * column, y + 4 + 6 * row, 2.6, 3, window)

        return paint

    return Scene(
        sky=gradient("#f06aa0", "#ff9f9a", "#ffd9a0"),
        layers=(
            scatter(cloud("#ffd3dc", 0.8), seed=8, cells=4, speed=0.8, drift=(0.35, 0.0)),
            band(blocks("#a678b8", 36, 9, None), speed=0.5),
            band(blocks("#4a3a78", 44, 10, None), speed=1.0),
            band(blocks("#4a3a78", 44, 10, "#ffd84f"), speed=1.0, twinkle=0.6),
        ),
    )


def _snowy_mountains() -> Scene:
    def peaks(draw: ImageDraw.ImageDraw, turn: float) -> None:
        for x, top, wide in ((12, 20, 26), (52, 27, 24), (88, 16, 30), (120, 28, 20)):
            x, top = x + turn, top + MARGIN
            polygon(draw, [(x, top), (x + wide, 110), (x - wide, 110)], "#6f88bd")
            cap = 0.2
            polygon(
                draw,
                [(x, top), (x + wide * cap, top + 16), (x, top + 12), (x - wide * cap, top + 16)],
                "#ffffff",
            )

    return Scene(
        sky=gradient("#b9bfe6", "#d9def5", "#f3f5ff"),
        layers=(
            band(peaks, speed=0.6),
            band(lambda draw, turn: hills(draw, turn, 52, ((2, 3), (3, 1.5)), "#f4f8ff"), speed=1.0),
            scatter(dots(1.5, "#ffffff"), seed=11, cells=7, speed=1.0, drift=(0.3, 0.4)),
        ),
    )


def _forest() -> Scene:
    def trees(colour: str, leaf: str, pitch: int, shift: int, wide: float) -> Paint:
        def paint(draw: ImageDraw.ImageDraw, turn: float) -> None:
            for number, x in enumerate(range(shift, PERIOD, pitch)):
                top = MARGIN + 14 + 5 * (number % 2)
                box(draw, x + turn - wide / 4, top, wide / 2, 100, colour)
                for step in range(3):
                    y = top - 12 + step * 9
                    polygon(draw, [(x + turn, y), (x + turn + wide, y + 16), (x + turn - wide, y + 16)], leaf)

        return paint

    return Scene(
        sky=gradient("#0f5b3c", "#3fa35c", "#b5dc7c"),
        layers=(
            band(trees("#2b5a3a", "#1f7a48", 32, 8, 10), speed=0.5),
            band(trees("#5b3716", "#0b4a2b", 64, 30, 14), speed=1.0),
            band(lambda draw, turn: hills(draw, turn, 57, ((4, 1.5),), "#3b2a12"), speed=1.0),
            scatter(dots(1.6, "#f7ff8a", "#ffe066"), seed=12, cells=5, speed=1.0, drift=(0.25, 0.15), twinkle=0.7),
        ),
    )


def _beach() -> Scene:
    def palms(draw: ImageDraw.ImageDraw, turn: float) -> None:
        for x, top in ((20, 22), (84, 26)):
            for step in range(34):
                disc(draw, x + turn + 5 * np.sin(step / 22), MARGIN + top + step, 1.6, "#8a5a2b")
            for angle in (-2.9, -2.2, -1.3, -0.6, 0.1, 3.3):
                tip = (x + turn + 13 * np.cos(angle), MARGIN + top + 9 * np.sin(angle) + 4)
                polygon(draw, [(x + turn, MARGIN + top - 2), tip, (x + turn, MARGIN + top + 3)], "#149a4a")
        for x in (52, 116):
            box(draw, x + turn - 0.6, MARGIN + 44, 1.2, 12, "#ffffff")
            polygon(
                draw, [(x + turn - 9, MARGIN + 46), (x + turn, MARGIN + 38), (x + turn + 9, MARGIN + 46)], "#ff4d4d"
            )
            polygon(
                draw, [(x + turn - 3, MARGIN + 46), (x + turn, MARGIN + 38), (x + turn + 3, MARGIN + 46)], "#ffffff"
            )

    return Scene(
        sky=gradient("#17c9c9", "#7fe9dc", "#e2fff4"),
        layers=(
            scatter(cloud("#ffffff", 0.8), seed=13, cells=4, speed=0.8, drift=(0.3, 0.0)),
            band(lambda draw, turn: hills(draw, turn, 38, ((8, 0.8),), "#0e9fb8"), speed=0.5, sway=2.0),
            band(lambda draw, turn: hills(draw, turn, 46, ((5, 1.3),), "#ffffff"), speed=0.9, sway=2.0, phase=2.0),
            band(lambda draw, turn: hills(draw, turn, 48, ((5, 1.3),), "#f7dc8b"), speed=1.0),
            band(palms, speed=1.0),
        ),
    )


def _space() -> Scene:
    def planet(draw: ImageDraw.ImageDraw, turn: float) -> None:
        disc(draw, 14 + turn, MARGIN + 13, 12, "#ffd08a", 3.4)
        disc(draw, 14 + turn, MARGIN + 13, 10, "#7a1f9a", 2.0)
        disc(draw, 14 + turn, MARGIN + 13, 7, "#ff8f3f")
        disc(draw, 15 + turn, MARGIN + 11, 5, "#ffab5e")

    def nebula(draw: ImageDraw.ImageDraw, turn: float) -> None:
        for x, y, radius in ((20, 58, 22), (64, 70, 26), (104, 60, 24)):
            disc(draw, x + turn, MARGIN + y, radius, "#c2299a", radius * 0.6)

    return Scene(
        sky=gradient("#2a0550", "#5a0f8a", "#8a1fb0"),
        layers=(
            band(nebula, speed=0.5),
            scatter(dots(1.3, "#ffffff", "#9ff0ff"), seed=14, cells=7, speed=0.8, twinkle=0.9),
            band(planet, speed=0.0),
            scatter(dots(3.0, "#5fd0e8", "#ff7fb8", "#c9a0ff"), seed=15, cells=3, speed=1.1, drift=(0.3, 0.0)),
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
