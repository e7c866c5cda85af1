"""Which scene is behind the object, where its horizon stands and how far its layers have scrolled."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from longtake.data.sprite_names import SCENES
from longtake.data.sprite_paint import PERIOD, SIZE, Floats, Layer
from longtake.data.sprite_render import Placed, cut, draw_scene, standing
from longtake.data.sprite_scenes import scene
from longtake.data.sprites import light

_LOWER = np.arange(-5.0, 13.0)
_DAY = (0.0, 0.5, 1.0)
_CAMERAS = 6
_SHORTLIST = 3
# Grey levels beyond which a pixel no longer counts against a scene: the object stands before it.
_CAP = 40.0


@dataclass(frozen=True, kw_only=True)
class Scenery:
    """A scene as the worlds draw it, in all that can change."""

    name: str
    """Name from SCENES."""
    lower: float
    """Pixels by which the horizon lies lower than usual."""
    time_of_day: float
    """0 by day to 1 late in the evening."""
    places: tuple[Placed, ...]
    """Where each layer stands."""

    def draw(self) -> Floats:
        """The picture without object, float32 (64, 64, 3) in 0 to 255."""
        picture = _painted(scene(self.name).sky.repeat(SIZE, axis=1), self._parts())
        return picture * np.float32(light(self.time_of_day))

    def lowered(self, lower: float) -> "Scenery":
        """The same scenery with its horizon there."""
        places = tuple(
            place if layer.endless_y else replace(place, y=standing(layer, lower))
            for layer, place in zip(scene(self.name).layers, self.places, strict=True)
        )
        return replace(self, lower=lower, places=places)

    def with_place(self, number: int, place: Placed) -> "Scenery":
        """The same scenery with one layer elsewhere."""
        return replace(self, places=(*self.places[:number], place, *self.places[number + 1 :]))

    def _parts(self) -> list[Floats]:
        return [cut(layer, place) for layer, place in zip(scene(self.name).layers, self.places, strict=True)]


def read_scenery(frame: Floats) -> tuple[Scenery, Floats]:
    """The scenery that explains most of a frame, float32 (64, 64, 3) in 0 to 255, and its picture."""
    found = [_scrolled(frame, start) for start in _likely(frame)]
    best = min(found, key=lambda scenery: _misfit(frame, scenery.draw()))
    best = _refined(frame, best)
    return best, best.draw()


def scroll(scenery: Scenery) -> tuple[float, float]:
    """Columns and rows by which the scene has scrolled: of its fastest layer on the ground, and of its air.

    Modulo the period of each, `scroll_period`.
    """
    ground, air = _tellers(scenery.name)
    return scenery.places[ground].x % scroll_period(scenery.name), scenery.places[air].y


@lru_cache
def scroll_period(name: str) -> float:
    """Columns after which the ground of a scene repeats itself."""
    ground = scene(name).layers[_tellers(name)[0]]
    texture = ground.texture[:, :PERIOD]
    moved = {parts: np.abs(texture - np.roll(texture, PERIOD // parts, axis=1)).mean() for parts in (2, 4, 8)}
    limit = 0.02 * np.abs(texture - np.roll(texture, 7, axis=1)).mean()
    return PERIOD / max((parts for parts, change in moved.items() if change < limit), default=1)


@lru_cache
def _tellers(name: str) -> tuple[int, int]:
    """Numbers of the layers that tell how far a scene has scrolled sideways, and up and down."""
    layers = list(enumerate(scene(name).layers))
    grounds = [(number, layer) for number, layer in layers if not layer.endless_y and layer.speed]
    airs = [number for number, layer in layers if layer.endless_y]
    return max(grounds, key=lambda pair: _variety(pair[1]))[0], airs[0] if airs else 0


def _variety(layer: Layer) -> float:
    texture = layer.texture[:, :PERIOD]
    return float(texture.std(axis=1).mean() / (1 + layer.sway))


def _painted(picture: Floats, parts: list[Floats]) -> Floats:
    for part in parts:
        picture = picture * (1 - part[..., 3:]) + part[..., :3]
    return picture


def _misfit(frame: Floats, picture: Floats) -> float:
    return float(np.minimum(np.abs(frame - picture).sum(-1), _CAP).mean())


@lru_cache
def _bank() -> tuple[list[Scenery], Floats]:
    """Sceneries of every scene, horizon and time of day, and the colours of their rows: (sceneries, 192 * 3)."""
    sceneries, profiles = [], []
    for name in SCENES:
        for lower in _LOWER:
            rng = np.random.default_rng(7)
            drawn = [draw_scene(name, 5 * n, tuple(rng.uniform(0, PERIOD, 2)), lower, (1.0,)) for n in range(_CAMERAS)]
            rows = np.mean([_profile(picture) for picture in drawn], axis=0)
            for time in _DAY:
                sceneries.append(_standing(name, float(lower), time))
                profiles.append((rows * np.float32(light(time))).ravel())
    return sceneries, np.stack(profiles)


def _standing(name: str, lower: float, time: float) -> Scenery:
    places = tuple(
        Placed(x=0.0, y=0.0 if layer.endless_y else standing(layer, lower), gain=1 - layer.twinkle / 2)
        for layer in scene(name).layers
    )
    return Scenery(name=name, lower=lower, time_of_day=time, places=places)


def _profile(picture: Floats) -> Floats:
    """Quartiles of the colours of each row: (64, 3 quartiles, 3)."""
    return np.sort(picture, axis=1)[:, SIZE // 8 :: SIZE * 3 // 8]


def _likely(frame: Floats) -> list[Scenery]:
    sceneries, profiles = _bank()
    misfits = np.minimum(np.abs(profiles - _profile(frame).ravel()), _CAP).mean(1)
    best: dict[str, int] = {}
    for index in misfits.argsort():
        best.setdefault(sceneries[index].name, int(index))
    floor = min(misfits[index] for index in best.values())
    names = [index for index in best.values() if misfits[index] < 1.5 * floor + 1][:_SHORTLIST]
    return [sceneries[index] for index in names]


def _scrolled(frame: Floats, scenery: Scenery) -> Scenery:
    """Every layer at the place, among all, where the whole fits the frame best; coarse, twice over."""
    for _ in range(2):
        for number, layer in enumerate(scene(scenery.name).layers):
            if layer.speed:
                scenery = _search_layer(frame, scenery, number, step=4 if layer.endless_y else 2)
    return scenery


def _search_layer(frame: Floats, scenery: Scenery, number: int, step: int) -> Scenery:
    parts = [_reduced(part, step) for part in scenery._parts()]
    sky = _reduced(scene(scenery.name).sky.repeat(SIZE, axis=1), step)
    tinge = np.float32(light(scenery.time_of_day))
    behind = _painted(sky, parts[:number])
    front, seen = np.zeros_like(behind), np.ones_like(behind[..., :1])
    for part in parts[number + 1 :]:
        front = front * (1 - part[..., 3:]) + part[..., :3]
        seen = seen * (1 - part[..., 3:])
    want = _reduced(frame, step) / tinge - front
    windows = _windows(scenery.name, number, step, scenery.places[number].y)
    error = want - seen * (behind * (1 - windows[..., 3:]) + windows[..., :3])
    cost = np.minimum(np.abs(error).sum(-1), _CAP).mean((-2, -1))
    row, column = np.unravel_index(cost.argmin(), cost.shape)
    place = scenery.places[number]
    y = float(row * step) if scene(scenery.name).layers[number].endless_y else place.y
    return scenery.with_place(number, replace(place, x=float(column * step), y=y))


def _windows(name: str, number: int, step: int, y: float) -> Floats:
    """All cuts of a layer, reduced: (rows, columns, 64 / step, 64 / step, 4); one row of them for a ground layer."""
    layer = scene(name).layers[number]
    texture = _reduced_texture(name, number, step) * np.float32(1 - layer.twinkle / 2)
    side = SIZE // step
    if not layer.endless_y:
        start = round(y / step)
        texture = texture[start : start + side]
    windows = sliding_window_view(texture, (side, side), axis=(0, 1))  # pyright: ignore[reportCallIssue, reportArgumentType]
    windows = np.moveaxis(windows, 2, -1)
    return windows[: PERIOD // step if layer.endless_y else 1, : PERIOD // step]


@lru_cache
def _reduced_texture(name: str, number: int, step: int) -> Floats:
    texture = scene(name).layers[number].texture
    height = texture.shape[0] // step * step
    width = texture.shape[1] // step * step
    return _reduced(texture[:height, :width], step)


def _reduced(picture: Floats, step: int) -> Floats:
    height, width, channels = picture.shape
    return picture.reshape(height // step, step, width // step, step, channels).mean((1, 3))


def _refined(frame: Floats, scenery: Scenery) -> Scenery:
    """Small moves of the horizon, the light and each layer, as long as they help; ever smaller."""
    best = _misfit(frame, scenery.draw())
    for step in (1.0, 0.5, 0.25):
        for moves in _moves(scenery, step):
            for _ in range(3):
                tries = [move(scenery) for move in moves]
                costs = [_misfit(frame, tried.draw()) for tried in tries]
                if min(costs) >= best:
                    break
                best, scenery = min(costs), tries[int(np.argmin(costs))]
    return scenery


def _moves(scenery: Scenery, step: float) -> Iterator[list]:
    yield [lambda now, by=by: now.lowered(now.lower + by) for by in (-step, step)]
    yield [
        lambda now, by=by: replace(now, time_of_day=min(max(now.time_of_day + by, 0.0), 1.0))
        for by in (-step / 4, step / 4)
    ]
    for number, layer in enumerate(scene(scenery.name).layers):
        if layer.speed:
            yield [lambda now, n=number, by=by: _moved(now, n, by, 0) for by in (-step, step)]
        if layer.endless_y:
            yield [lambda now, n=number, by=by: _moved(now, n, 0, by) for by in (-step, step)]
        if layer.twinkle:
            yield [lambda now, n=number, by=by: _twinkled(now, n, by) for by in (-step / 4, step / 4)]


def _moved(scenery: Scenery, number: int, right: float, down: float) -> Scenery:
    place = scenery.places[number]
    y = (place.y + down) % PERIOD if down else place.y
    return scenery.with_place(number, replace(place, x=(place.x + right) % PERIOD, y=y))


def _twinkled(scenery: Scenery, number: int, by: float) -> Scenery:
    place = scenery.places[number]
    depth = scene(scenery.name).layers[number].twinkle
    return scenery.with_place(number, replace(place, gain=min(max(place.gain + by, 1 - depth), 1.0)))
