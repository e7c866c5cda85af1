"""Spoilt real worlds whose shapes or names are wrong: what a score of shape and identity must mark down."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from longtake.data.sprite_captions import OBJECTS
from longtake.data.sprite_paint import SIZE, Floats
from longtake.data.sprite_render import draw_scene
from longtake.data.sprites import SpriteWorld, light
from longtake.metrics.controls import CONTROLS

Frames = NDArray[np.uint8]

_MELT_PIXELS = 2.0
_MELT_WIDTH = 6.0


def melted(world: SpriteWorld, frames: range) -> Frames:
    """Every frame bent smoothly at random: by 2 pixels on average, over lengths of about 6 pixels."""
    return np.stack([_bent(world.frames(n, n + 1)[0], np.random.default_rng([world.seed, n])) for n in frames])


def _bent(frame: Frames, rng: np.random.Generator) -> Frames:
    rows, columns = np.mgrid[:SIZE, :SIZE] + _MELT_PIXELS * _smooth(rng)
    rows, columns = rows.clip(0, SIZE - 1.001), columns.clip(0, SIZE - 1.001)
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    upper = frame[top, left] * (1 - right) + frame[top, left + 1] * right
    lower = frame[top + 1, left] * (1 - right) + frame[top + 1, left + 1] * right
    return (upper * (1 - down) + lower * down + 0.5).astype(np.uint8)


def _smooth(rng: np.random.Generator) -> NDArray[np.float64]:
    """Two fields of smooth noise with a standard deviation of 1: (2, 64, 64)."""
    waves = np.fft.fftfreq(SIZE)
    low = np.exp(-2 * (np.pi * _MELT_WIDTH) ** 2 * (waves[:, None] ** 2 + waves**2))
    fields = np.fft.ifft2(np.fft.fft2(rng.normal(size=(2, SIZE, SIZE))) * low).real
    return fields / fields.std()


def blended(world: SpriteWorld, frames: range) -> Frames:
    """The object and another one, half and half."""
    both = world.frames_at(frames), wrong_object(world, frames)
    return ((both[0].astype(np.uint16) + both[1]) // 2).astype(np.uint8)


def wrong_object(world: SpriteWorld, frames: range) -> Frames:
    """Another object in the place of the right one."""
    timeline = {
        start: replace(shot, object=OBJECTS[(OBJECTS.index(shot.object) + 1 + world.seed % 15) % 16])
        for start, shot in world.timeline.items()
    }
    return SpriteWorld(world.seed, timeline).frames_at(frames)


def blob(world: SpriteWorld, frames: range) -> Frames:
    """An ellipse of the object's mean colour, where and as large, long and turned as the object."""
    return np.stack([_blob(world, frame) for frame in frames])


def _blob(world: SpriteWorld, frame: int) -> Frames:
    state = world.state(frame)
    camera = (state.map_x, state.map_y)
    picture = draw_scene(state.shot.scene, frame, camera, state.horizon, light(state.time_of_day))
    sprite = state.pose.draw()
    if sprite[..., 3].any():
        alpha = _ellipse(sprite[..., 3] / np.float32(255))[..., None]
        colour = sprite[..., :3].sum((0, 1)) / sprite[..., 3].sum() * 255 * np.array(state.pose.tint, np.float32)
        picture = picture * (1 - alpha) + colour * alpha
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


def _ellipse(alpha: Floats) -> Floats:
    """A soft-edged ellipse with the mean and the spread of a silhouette."""
    places = np.mgrid[:SIZE, :SIZE].reshape(2, -1)
    weights = alpha.ravel()
    spread = np.cov(places, aweights=weights) + 0.1 * np.eye(2)
    away = places - np.average(places, axis=1, weights=weights)[:, None]
    # A filled ellipse reaches twice as far as its standard deviation.
    radius = np.sqrt(np.einsum("in,ij,jn->n", away, np.linalg.inv(spread), away)) / 2
    pixels = np.sqrt(np.linalg.det(spread)) ** 0.5 * 2
    return np.clip((1 - radius) * pixels + 0.5, 0, 1).reshape(SIZE, SIZE).astype(np.float32)


def _of_clip(name: str) -> Callable[[SpriteWorld, range], Frames]:
    return lambda world, frames: CONTROLS[name](world.frames_at(frames), world.seed)


SPOILT: dict[str, Callable[[SpriteWorld, range], Frames]] = {
    "melted": melted,
    "blended": blended,
    "blob": blob,
    "wrong object": wrong_object,
    "frozen": _of_clip("frozen"),
    "shuffled": _of_clip("shuffled"),
}
"""Name -> function of (world, numbers of its frames): what a score of shape, identity and steps must mark down."""
