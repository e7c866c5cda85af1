"""Endless captioned videos of an object in a scene, drawn on the spot at any frame number.

A world is a function of its seed and timeline: the same frame is the same picture, whether it is reached in order
or asked for directly, at frame 3 and at frame 3,000,000. Besides what the caption says, a world has state that
moves slowly (tint, size, speed, horizon, time of day, place on the map), and the object now and then leaves the
picture and comes back.
"""

import os
import signal
import threading
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from math import cos, exp, pi, sin
from multiprocessing import get_context, parent_process

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from longtake.data.sprite_captions import (
    MOTIONS,
    OBJECTS,
    SCENES,
    VOCABULARY,
    Shot,
    all_shots,
    caption,
    grammar_corpus,
    held_out_shots,
    is_held_out,
    parse_caption,
    training_shots,
)
from longtake.data.sprite_paint import SIZE
from longtake.data.sprite_render import Pose, draw_scene
from longtake.errors import InputError

__all__ = [
    "FPS", "MOTIONS", "OBJECTS", "SCENES", "SIZE", "VOCABULARY", "Shot", "SpriteState", "SpriteWorld",
    "Surroundings", "Timeline",
    "all_shots", "caption", "drawn", "grammar_corpus", "held_out_shots", "is_held_out", "parse_caption", "preview",
    "random_world", "training_shots",
]  # fmt: skip

FPS = 8
Timeline = dict[int, Shot]
"""Start frame -> what is shown from there on; frame 0 must be among them."""

_TRAVEL_SPEED = 2.2
_TURNS_PER_FRAME = 1 / 14
_EXCURSION = 24
_WORTH_IT = 1000
_DIRECTIONS = {"drives right": (1, 0), "sails left": (-1, 0), "flies up": (0, -1), "dives down": (0, 1)}
# How far an object leans (degrees) when it flies up or dives; the rocket points where it goes.
_LEAN = {"rocket": 90, "fish": 55, "duck": 35, "whale": 40, "helicopter": 25, "butterfly": 25}
# Slender objects are drawn larger, so that all of them cover about the same area.
_GROW = {"rocket": 1.2, "balloon": 1.15, "butterfly": 1.1, "whale": 1.1, "helicopter": 1.1}


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """How a scene looks at a moment, of which no caption speaks."""

    horizon: float
    """Pixels by which the horizon lies lower than usual."""
    time_of_day: float
    """0 by day to 1 late in the evening."""


@dataclass(frozen=True, kw_only=True)
class SpriteState(Surroundings):
    """What is true of one frame, beside its pixels."""

    shot: Shot
    """Object, scene and motion."""
    pose: Pose
    """The object as it is drawn."""
    map_x: float
    """Place of the camera on the map, pixels to the right."""
    map_y: float
    """Place of the camera on the map, pixels down."""
    speed: float
    """Factor on the speed of the motion, about 0.8 to 1.25."""
    visible: float
    """Share of the object's width that is inside the picture."""


@dataclass(frozen=True, kw_only=True)
class _Wave:
    """A slow sine around 0 with amplitude 1."""

    period: float
    phase: float

    def at(self, frame: float) -> float:
        return sin(2 * pi * frame / self.period + self.phase)

    def integral(self, frame: float) -> float:
        return (cos(self.phase) - cos(2 * pi * frame / self.period + self.phase)) * self.period / (2 * pi)


_WAVES = ("tint", "warmth", "size", "speed", "horizon", "day", "map_x", "map_y", "x", "y")


class SpriteWorld:
    """An endless video with exact ground truth: 64x64 pixels, 8 frames a second."""

    def __init__(self, seed: int, timeline: Mapping[int, Shot]) -> None:
        """Make the world of this seed; InputError unless the timeline starts at frame 0."""
        if not timeline or min(timeline) != 0:
            raise InputError("a timeline must say what frame 0 shows; add an entry for frame 0")
        self.seed = seed
        self.timeline = dict(sorted(timeline.items()))
        self._starts = list(self.timeline)
        rng = np.random.default_rng([seed, 20])
        self._waves = {
            name: _Wave(period=300 * exp(rng.uniform(0, np.log(10))), phase=rng.uniform(0, 2 * pi)) for name in _WAVES
        }
        self._base_size = rng.uniform(31, 36)
        self._base_speed = rng.uniform(0.92, 1.08)
        self._phase = rng.uniform(0, 2 * pi)
        self._map = rng.uniform(0, 1000, 2)
        self._leave_period = int(rng.integers(600, 900))
        self._leave_phase = int(rng.integers(0, self._leave_period))
        self._leave_side = int(rng.choice([-1, 1]))
        self._variants = int(rng.integers(1, 2**31))
        self._camera = self._camera_at_starts()

    def shot(self, frame: int) -> Shot:
        """What this frame shows."""
        return self.timeline[self._starts[self._segment(frame)]]

    def caption(self, frame: int) -> str:
        """The caption of this frame, the same for all frames of a shot."""
        number = self._segment(frame)
        return caption(self.shot(frame), (self._variants + 7919 * number) % 2**31)

    def state(self, frame: int) -> SpriteState:
        """Everything that is true of this frame."""
        assert frame >= 0, frame
        shot = self.shot(frame)
        wave = {name: slow.at(frame) for name, slow in self._waves.items()}
        map_x, map_y = self._camera_at(frame)
        dx, dy, grow, angle = self._pose(shot, frame)
        size = (self._base_size + 3 * wave["size"]) * grow * _GROW.get(shot.object, 1.0)
        x = 32 + 3 * wave["x"] + dx + self._leaving(frame)
        warm, dim = 0.10 * wave["warmth"], 1 - 0.06 * (1 + wave["tint"])
        aloft = 7.0 if shot.motion in ("flies up", "dives down") else 0.0
        return SpriteState(
            shot=shot,
            pose=Pose(
                name=shot.object,
                x=x,
                y=32 + 2 * wave["y"] + dy,
                size=size,
                angle=angle,
                mirrored=shot.motion == "sails left" and shot.object != "rocket",
                tint=(dim * (1 + warm), dim, dim * (1 - warm)),
            ),
            horizon=4 * wave["horizon"] + aloft,
            time_of_day=0.5 + 0.5 * wave["day"],
            map_x=map_x,
            map_y=map_y,
            speed=self._base_speed * (1 + 0.15 * wave["speed"]),
            visible=min(max((min(x + size / 2, SIZE) - max(x - size / 2, 0)) / size, 0.0), 1.0),
        )

    def frames(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Draw frames start to stop (half open), uint8 (frames, 64, 64, 3)."""
        return self.frames_at(range(start, stop))

    def frames_at(self, numbers: Sequence[int]) -> NDArray[np.uint8]:
        """Draw the frames of these numbers, in this order, uint8 (frames, 64, 64, 3)."""
        video = np.empty((len(numbers), SIZE, SIZE, 3), dtype=np.uint8)
        for index, frame in enumerate(numbers):
            video[index] = self._draw(frame)
        return video

    def _draw(self, frame: int) -> NDArray[np.uint8]:
        state = self.state(frame)
        camera = (state.map_x, state.map_y)
        picture = draw_scene(state.shot.scene, frame, camera, state.horizon, light(state.time_of_day))
        state.pose.paste(picture)
        return np.clip(picture + 0.5, 0, 255).astype(np.uint8)

    def _segment(self, frame: int) -> int:
        return bisect_right(self._starts, frame) - 1

    def _way(self, frame: float) -> float:
        """Integral of the speed up to this frame, so that no phase ever jumps."""
        return self._base_speed * (frame + 0.15 * self._waves["speed"].integral(frame))

    def _camera_at_starts(self) -> list[tuple[float, float]]:
        places = [(float(self._map[0]), float(self._map[1]))]
        for start, stop in zip(self._starts, self._starts[1:], strict=False):
            places.append(self._moved(places[-1], start, stop))
        return places

    def _moved(self, place: tuple[float, float], start: int, stop: int) -> tuple[float, float]:
        right, down = _DIRECTIONS.get(self.timeline[start].motion, (0, 0))
        way = _TRAVEL_SPEED * (self._way(stop) - self._way(start))
        return place[0] + right * way, place[1] + down * way

    def _camera_at(self, frame: int) -> tuple[float, float]:
        number = self._segment(frame)
        x, y = self._moved(self._camera[number], self._starts[number], frame)
        return x + 12 * self._waves["map_x"].at(frame), y + 8 * self._waves["map_y"].at(frame)

    def _leaving(self, frame: int) -> float:
        """Sideways excursion in pixels: now and then out of the picture and back within 24 frames."""
        since = (frame + self._leave_phase) % self._leave_period
        return self._leave_side * 66 * sin(pi * since / _EXCURSION) ** 2 if since < _EXCURSION else 0.0

    def _pose(self, shot: Shot, frame: int) -> tuple[float, float, float, float]:
        """Offset right and down in pixels, factor on the size, and angle that the motion gives."""
        turn = 2 * pi * _TURNS_PER_FRAME * self._way(frame) + self._phase
        bob = 0.8 * sin(turn)
        lean = _LEAN.get(shot.object, 15) * pi / 180
        heading = -pi / 2 if shot.object == "rocket" else 0.0
        match shot.motion:
            case "drives right":
                return 0.0, bob, 1.0, heading
            case "sails left":
                return 0.0, bob, 1.0, -heading
            case "flies up":
                return bob, -2.0, 1.0, 0.0 if heading else lean
            case "dives down":
                return bob, 2.0, 1.0, pi if heading else -lean
            case "circles":
                return 10 * cos(turn), 10 * sin(turn), 0.95, 0.0
            case "bounces":
                return 0.0, 10 - 22 * abs(sin(turn / 2)), 0.95, 0.0
            case "swings":
                return 11 * sin(turn), -4 * sin(turn) ** 2, 0.95, 0.6 * sin(turn)
            case "spins":
                return 0.0, 0.0, 1.0, -turn
            case "pulses":
                return 0.0, 0.0, 1 + 0.27 * sin(turn), 0.0
            case _:
                return 0.0, 0.0, 1.0, 0.0


def drawn(stretches: Sequence[tuple[SpriteWorld, Sequence[int]]], processes: int) -> list[NDArray[np.uint8]]:
    """Draw frames of these numbers of each world, as `frames_at` does, in so many processes."""
    if processes == 1 or sum(len(frames) for _, frames in stretches) < _WORTH_IT:
        return [_drawn(stretch) for stretch in stretches]
    return list(_pool(processes).map(_drawn, stretches, chunksize=4))


@cache
def _pool(processes: int) -> ProcessPoolExecutor:
    """Processes that stay until this one ends, however it does: each has to paint the scenery once."""
    # Not forked from this one, which may have threads and a GPU.
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return ProcessPoolExecutor(processes, context, _begun)


def _begun() -> None:
    """Leave Ctrl-C for the parent to hear, and end when it does: after a kill they would wait for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _drawn(stretch: tuple[SpriteWorld, Sequence[int]]) -> NDArray[np.uint8]:
    world, frames = stretch
    return world.frames_at(frames)


def light(time_of_day: float) -> tuple[float, float, float]:
    """Factors on red, green and blue of the scenery, from day (0) to late evening (1)."""
    return 1 - 0.16 * time_of_day, 1 - 0.22 * time_of_day, 1 - 0.12 * time_of_day


def random_world(
    seed: int, num_shots: int = 1, shot_frames: tuple[int, int] = (48, 256), training_only: bool = True
) -> SpriteWorld:
    """A world with `num_shots` random shots, each of them `shot_frames` (least, most) long, the last for ever.

    With `training_only` no shot is one of the held-out triples.
    """
    rng = np.random.default_rng([seed, 10])
    shots = training_shots() if training_only else tuple(all_shots())
    timeline: Timeline = {}
    start = 0
    for _ in range(num_shots):
        timeline[start] = shots[int(rng.integers(len(shots)))]
        start += int(rng.integers(shot_frames[0], shot_frames[1] + 1))
    return SpriteWorld(seed, timeline)


def preview(zoom: int = 2) -> Image.Image:
    """A contact sheet: every object in every scene, and below it a strip of every motion."""
    pad = 2
    step = SIZE + pad
    sheet = Image.new("RGB", (len(OBJECTS) * step, (len(SCENES) + len(MOTIONS)) * step), "#202020")
    for row, place in enumerate(SCENES):
        for column, name in enumerate(OBJECTS):
            shot = Shot(object=name, scene=place, motion="rests")
            frame = SpriteWorld(row * 100 + column, {0: shot}).frames(60, 61)[0]
            sheet.paste(Image.fromarray(frame), (column * step, row * step))
    for row, motion in enumerate(MOTIONS):
        shot = Shot(object=OBJECTS[row], scene=SCENES[row], motion=motion)
        strip = SpriteWorld(row, {0: shot}).frames(64, 64 + len(OBJECTS))
        for column, frame in enumerate(strip):
            sheet.paste(Image.fromarray(frame), (column * step, (len(SCENES) + row) * step))
        ImageDraw.Draw(sheet).text((3, (len(SCENES) + row) * step + 2), motion, fill="white")
    return sheet.resize((sheet.width * zoom, sheet.height * zoom), Image.Resampling.NEAREST)
