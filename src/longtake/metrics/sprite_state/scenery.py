"""Which scene is behind the object, where its horizon stands and how far its layers have scrolled."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from longtake.data.sprite_captions import SCENES
from longtake.data.sprite_paint import PERIOD, SIZE, Floats, Layer
from longtake.data.sprite_render import Placed, cut, draw_scene, standing
from longtake.data.sprite_scenes import scene
from longtake.data.sprites import Surroundings, light

_LOWER = np.arange(-5.0, 13.0)
_DAY = (0.0, 0.5, 1.0)
_CAMERAS = 6
_SHORTLIST = 3
# Grey levels beyond which a pixel no longer counts against a scene: the object stands before it.
_CAP = 40.0
_AIR_CAP = 120.0


@dataclass(frozen=True, kw_only=True)
class Scenery(Surroundings):
    """A scene as the worlds draw it, in all that can change."""

    name: str
    """Name from SCENES."""
    places: tuple[Placed, ...]
    """Where each layer stands."""

    def draw(self) -> Floats:
        """The picture without object, float32 (64, 64, 3) in 0 to 255."""
        picture = _painted(scene(self.name).sky.repeat(SIZE, axis=1), self._parts())
        return picture * _factors(light(self.time_of_day))

    def lowered(self, horizon: float) -> "Scenery":
        """The same scenery with its horizon there."""
        places = tuple(
            place if layer.endless_y else replace(place, y=standing(layer, horizon))
            for layer, place in zip(scene(self.name).layers, self.places, strict=True)
        )
        return replace(self, horizon=horizon, places=places)

    def with_place(self, number: int, place: Placed) -> "Scenery":
        """The same scenery with one layer elsewhere."""
        return replace(self, places=(*self.places[:number], place, *self.places[number + 1 :]))

    def _parts(self) -> list[tuple[Floats, Floats]]:
        return [_cut(self.name, number, place) for number, place in enumerate(self.places)]


@lru_cache(maxsize=64)
def _cut(name: str, number: int, place: Placed) -> tuple[Floats, Floats]:
    """What a layer at this place lets through, and what it adds."""
    part = cut(scene(name).layers[number], place)
    return np.repeat(1 - part[..., 3:], 3, axis=-1), np.ascontiguousarray(part[..., :3])


def read_scenery(frame: Floats) -> Scenery:
    """The scenery that explains most of a frame, float32 (64, 64, 3) in 0 to 255."""
    everywhere = np.ones((SIZE, SIZE, 1), np.float32)
    found = [_scrolled(frame, start, everywhere) for start in _likely(frame)]
    best = min(found, key=lambda scenery: _misfit(frame, scenery.draw(), everywhere))
    return _refined(frame, best, everywhere, (1.0, 0.5))


def read_again(frame: Floats, scenery: Scenery, free: Floats) -> Scenery:
    """The same scene, read where no object hides it: `free` is 1 there and 0 elsewhere, (64, 64, 1)."""
    tries = [scenery, _scrolled(frame, scenery, free)]
    best = min(tries, key=lambda tried: _misfit(frame, tried.draw(), free))
    return _refined(frame, best, free, (1.0, 0.25))


def scroll(scenery: Scenery) -> tuple[float, float]:
    """Columns by which the ground has scrolled and rows by which the air has, modulo their periods."""
    ground, air = ground_layer(scenery.name), air_layer(scenery.name)
    return scenery.places[ground].x % scroll_period(scenery.name), scenery.places[air].y


@lru_cache
def scroll_period(name: str) -> float:
    """Columns after which the ground of a scene repeats itself."""
    texture = scene(name).layers[ground_layer(name)].texture[:, :PERIOD]
    moved = {n: np.abs(texture - np.roll(texture, round(PERIOD / n), axis=1)).mean() for n in range(2, 9)}
    limit = 0.1 * np.abs(texture - np.roll(texture, 7, axis=1)).mean()
    return PERIOD / max((parts for parts, change in moved.items() if change < limit), default=1)


@lru_cache
def ground_layer(name: str) -> int:
    """Number of the layer that tells best how far a scene has scrolled sideways: the one that varies most."""
    layers = enumerate(scene(name).layers)
    grounds = [(number, layer) for number, layer in layers if not layer.endless_y and layer.speed]
    return max(grounds, key=lambda pair: _variety(pair[1]))[0]


@lru_cache
def air_layer(name: str) -> int:
    """Number of the layer that tells how far a scene has scrolled up and down: clouds, bubbles, stars."""
    return next(number for number, layer in enumerate(scene(name).layers) if layer.endless_y)


def _variety(layer: Layer) -> float:
    texture = layer.texture[:, :PERIOD]
    return float(texture.std(axis=1).mean() / (1 + layer.sway))


def _factors(values: Sequence[float]) -> Floats:
    return np.array(values, np.float32)


def _painted(picture: Floats, parts: list[tuple[Floats, Floats]]) -> Floats:
    for through, colour in parts:
        picture = picture * through
        picture += colour
    return picture


def _misfit(frame: Floats, picture: Floats, free: Floats) -> float:
    return float((_distance(frame, picture) * free[..., 0]).mean())


def _distance(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.floating]:
    """Of each pixel, summed over its colours (by hand: numpy is slow at sums of three), at most the cap."""
    apart = np.abs(one - other)
    return np.minimum(apart[..., 0] + apart[..., 1] + apart[..., 2], _CAP)


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
                profiles.append((rows * _factors(light(time))).ravel())
    return sceneries, np.stack(profiles)


def _standing(name: str, lower: float, time: float) -> Scenery:
    places = tuple(
        Placed(x=0.0, y=0.0 if layer.endless_y else standing(layer, lower), gain=1 - layer.twinkle / 2)
        for layer in scene(name).layers
    )
    return Scenery(name=name, horizon=lower, time_of_day=time, places=places)


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


def _scrolled(frame: Floats, scenery: Scenery, free: Floats) -> Scenery:
    """Every layer at the place, among all, where the whole fits the frame best; what stands on the ground twice."""
    layers = list(enumerate(scene(scenery.name).layers))
    grounds = [number for number, layer in layers if layer.speed and not layer.endless_y]
    airs = [number for number, layer in layers if layer.endless_y]
    for number in (*grounds, *airs, *grounds):
        search = _search_air if number in airs else _search_ground
        scenery = search(frame, scenery, number, free)
    return scenery


def _search_ground(frame: Floats, scenery: Scenery, number: int, free: Floats) -> Scenery:
    """The layer at the best of all columns, at half the size."""
    behind, through, front = (_reduced(part, 2) for part in _around(scenery, number))
    want = _reduced(frame, 2) / _factors(light(scenery.time_of_day)) - front
    place = scenery.places[number]
    windows = _windows(scenery.name, number, round(place.y / 2))
    # want - through * (behind * (1 - alpha) + colour), in an order that touches the many windows seldom.
    apart = _distance(want - through * behind, through * (windows[..., :3] - behind * windows[..., 3:]))
    cost = (apart * _reduced(free, 2)[..., 0]).mean((-2, -1))
    return scenery.with_place(number, replace(place, x=2.0 * float(cost.argmin())))


def _search_air(frame: Floats, scenery: Scenery, number: int, free: Floats) -> Scenery:
    """The layer at the best of all rows and columns: least squares, by products of Fourier transforms."""
    behind, through, front = _around(scenery, number)
    through = through[..., :1] * free
    rest = frame / _factors(light(scenery.time_of_day)) - front - through * behind
    rest = (np.clip(rest, -_AIR_CAP, _AIR_CAP) * through).astype(np.float32)
    fields = [
        -2 * rest,
        2 * _summed(rest * behind),
        through**2,
        -2 * through**2 * behind,
        through**2 * _summed(behind**2),
    ]
    image = np.fft.rfft2(np.concatenate(fields, axis=-1), (PERIOD, PERIOD), axes=(0, 1))
    cost = np.fft.irfft2((np.conj(image) * _air_waves(scenery.name, number)).sum(-1), (PERIOD, PERIOD))
    row, column = np.unravel_index(cost.argmin(), cost.shape)
    return scenery.with_place(number, replace(scenery.places[number], x=float(column), y=float(row)))


@lru_cache
def _air_waves(name: str, number: int) -> NDArray[np.complex64]:
    """Fourier transforms of what `_search_air` multiplies its fields with."""
    layer = scene(name).layers[number]
    texture = layer.texture[:PERIOD, :PERIOD] * np.float32(1 - layer.twinkle / 2)
    colour, alpha = texture[..., :3], texture[..., 3:]
    parts = [colour, alpha, _summed(colour**2), colour * alpha, alpha**2]
    return np.fft.rfft2(np.concatenate(parts, axis=-1), axes=(0, 1)).astype(np.complex64)


def _around(scenery: Scenery, number: int) -> tuple[Floats, Floats, Floats]:
    """What is behind a layer, what those before it let through, and what they add; before the light."""
    parts = scenery._parts()
    behind = _painted(scene(scenery.name).sky.repeat(SIZE, axis=1), parts[:number])
    seen, front = np.ones_like(behind), np.zeros_like(behind)
    for through, colour in parts[number + 1 :]:
        seen, front = seen * through, front * through + colour
    return behind, seen, front


def _summed(picture: Floats) -> Floats:
    return picture[..., :1] + picture[..., 1:2] + picture[..., 2:]


def _windows(name: str, number: int, row: int) -> Floats:
    """All cuts of a layer on the ground from this row on, at half the size: (64 columns, 32, 32, 4)."""
    texture = _halved_texture(name, number)[row : row + SIZE // 2]
    windows = sliding_window_view(texture, SIZE // 2, axis=1)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return windows[:, : PERIOD // 2].transpose(1, 0, 3, 2)


@lru_cache
def _halved_texture(name: str, number: int) -> Floats:
    layer = scene(name).layers[number]
    height, width = (side // 2 * 2 for side in layer.texture.shape[:2])
    return _reduced(layer.texture[:height, :width], 2) * np.float32(1 - layer.twinkle / 2)


def _reduced(picture: Floats, step: int) -> Floats:
    rows = sum(picture[row::step] for row in range(step))
    return sum(rows[:, column::step] for column in range(step)) / np.float32(step * step)  # pyright: ignore


def _refined(frame: Floats, scenery: Scenery, free: Floats, steps: tuple[float, ...]) -> Scenery:
    """Small moves of the horizon, the light and each layer, as long as they help; ever smaller."""
    best = _misfit(frame, scenery.draw(), free)
    for step in steps:
        for moves in _moves(scenery, step):
            for _ in range(3):
                tries = [move(scenery) for move in moves]
                costs = [_misfit(frame, tried.draw(), free) for tried in tries]
                if min(costs) >= best:
                    break
                best, scenery = min(costs), tries[int(np.argmin(costs))]
    return scenery


def _moves(scenery: Scenery, step: float) -> Iterator[list]:
    yield [lambda now, by=by: now.lowered(now.horizon + by) for by in (-step, step)]
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
