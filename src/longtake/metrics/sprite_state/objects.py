"""Which object stands before a known scenery, and where, how large, how turned and how tinted it is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from longtake.data.sprite_captions import OBJECTS
from longtake.data.sprite_paint import SIZE, Floats
from longtake.data.sprite_render import Pose

_STEP = 4
_SIDE = 15
_SIZES = 20.0 * 1.12 ** np.arange(10)
_ANGLES = 24
_TINT = 0.94
_TINTS = (_TINT, _TINT, _TINT)
_PLACES = 28
_TRIED = 40
_OF_ONE = 20
_RIVALS = 3
_ALIKE = 0.4
# The worlds tint by 0.79 to 1.10; the weight holds the tint there where an object shows little of a colour.
_TINT_LIMITS = (0.7, 1.15)
_TINT_WEIGHT = 3e4


def over(pose: Pose, scenery: Floats) -> Floats:
    """Return the picture with the object before its scenery, (64, 64, 3)."""
    return _over(_planes(pose.draw()), _planes(scenery), pose.tint).transpose(1, 2, 0)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """One object at its best pose, and how much it explains."""

    pose: Pose
    """The pose."""
    explained: float
    """Share of what differs from the scenery that the object explains, at most 1; below 0 it explains nothing."""


class _Task:
    """A frame and its scenery, cut to where one object is."""

    def __init__(self, frame: Floats, scenery: Floats, pose: Pose) -> None:
        reach = 0.62 * pose.size + 6
        # Even, so that halves of the pictures can be taken.
        self.left, self.top = (int(np.clip(middle - reach, 0, SIZE - 8)) // 2 * 2 for middle in (pose.x, pose.y))
        right, bottom = (int(np.clip(middle + reach, 8, SIZE)) // 2 * 2 for middle in (pose.x, pose.y))
        self.side = (max(right - self.left, 8), max(bottom - self.top, 8))
        part = slice(self.top, self.top + self.side[1]), slice(self.left, self.left + self.side[0])
        self.frame, self.scenery = _planes(frame[part]), _planes(scenery[part])

    def sprite(self, pose: Pose) -> Floats:
        return _planes(pose.draw(self.left, self.top, self.side))

    def picture(self, pose: Pose) -> Floats:
        return _over(self.sprite(pose), self.scenery, pose.tint)

    def error(self, pose: Pose, step: int) -> float:
        return _energy(_pooled(self.frame - self.picture(pose), step))


def _planes(picture: Floats) -> Floats:
    """(height, width, channels) to (channels, height, width), in which sums over the picture are faster."""
    return np.ascontiguousarray(picture.transpose(2, 0, 1))


def _over(sprite: Floats, scenery: Floats, tint: tuple[float, ...]) -> Floats:
    """Planes of the sprite before planes of its scenery."""
    through = 1 - sprite[3] * np.float32(1 / 255)
    return scenery * through + sprite[:3] * np.array(tint, np.float32)[:, None, None]


def _energy(picture: Floats) -> float:
    flat = picture.ravel()
    return float(flat @ flat)


@lru_cache
def _bank() -> tuple[list[Pose], Floats]:
    """Every object in every size and turn, and its kernels: (poses, 15 * 15 * 9)."""
    # The middle of the odd window is the middle of a cell, half a cell from the middle of the picture.
    middle = (SIZE - _STEP) / 2
    turns = [(2 * np.pi * number / _ANGLES, False) for number in range(_ANGLES)] + [(0.0, True)]
    poses = [
        Pose(name=name, x=middle, y=middle, size=float(size), angle=angle, mirrored=mirrored, tint=_TINTS)
        for name in OBJECTS
        for size in _SIZES
        for angle, mirrored in turns
    ]
    return poses, np.stack([_kernel(pose) for pose in poses])


def _kernel(pose: Pose) -> Floats:
    """What, multiplied with `_features` of a window, gives by how much this object lessens the squared error."""
    small = _cells(pose.draw())[:_SIDE, :_SIDE]
    colour, alpha = small[..., :3] * _TINT, small[..., 3:]
    parts = [2 * colour, -2 * alpha, 2 * alpha * colour, -(alpha**2), -(colour**2).sum(-1, keepdims=True)]
    return np.concatenate(parts, axis=-1).ravel()


def _features(frame: Floats, scenery: Floats) -> Floats:
    """Of each cell: what differs from the scenery, the scenery, and their products, (16, 16, 9); 0 to 1."""
    now, behind = _cells(frame), _cells(scenery)
    rest = now - behind
    parts = [rest, (rest * behind).sum(-1, keepdims=True), behind, (behind**2).sum(-1, keepdims=True)]
    return np.concatenate([*parts, np.ones_like(rest[..., :1])], axis=-1)


def _cells(picture: Floats) -> Floats:
    return _pooled(_planes(picture), _STEP).transpose(1, 2, 0) / np.float32(255)


def read_object(frame: Floats, scenery: Floats, wanted: str | None = None, near: Pose | None = None) -> list[Fit]:
    """Objects that explain best what differs from the scenery, best first, one fit of each.

    Both pictures are float32 (64, 64, 3) in 0 to 255; `wanted` is among the fits whatever it explains; with `near`,
    a pose that was not good enough, many more are tried, around it and elsewhere.
    """
    poses = _coarse(frame, scenery, wanted)
    tried = sorted(poses, key=lambda pose: _gain(frame, scenery, pose))
    rough = [_approached(frame, scenery, pose, 2, 4) for pose in _rivals(tried, wanted, 3 if near is None else 6)]
    rough += [_approached(frame, scenery, pose, 2, 4) for pose in (_around(near) if near else ())]
    best: dict[str, Pose] = {}
    for pose in sorted(rough, key=lambda pose: _gain(frame, scenery, pose)):
        best.setdefault(pose.name, pose)
    return by_worth(fit(frame, scenery, pose) for pose in best.values())


def by_worth(fits: Iterable[Fit]) -> list[Fit]:
    """The fits, best first."""
    return sorted(fits, key=lambda each: -each.explained)


def polished(frame: Floats, scenery: Floats, pose: Pose) -> Fit:
    """The best pose near this one, at the full size."""
    return fit(frame, scenery, _approached(frame, scenery, pose, 1, 4))


def fit(frame: Floats, scenery: Floats, pose: Pose) -> Fit:
    """How much an object explains at this pose."""
    gain = _gain(frame, scenery, pose)
    return Fit(pose=pose, explained=-gain / max(_energy(frame - scenery), 1.0))


def _gain(frame: Floats, scenery: Floats, pose: Pose) -> float:
    """Change of the squared error by this object; below 0 where it helps."""
    task = _Task(frame, scenery, pose)
    return task.error(pose, 1) - _energy(task.frame - task.scenery)


def _coarse(frame: Floats, scenery: Floats, wanted: str | None) -> list[Pose]:
    """The most likely poses of the bank, found at a quarter of the size."""
    poses, kernels = _bank()
    features = _features(frame, scenery)
    half = _SIDE // 2
    padded = np.pad(features, ((half, half), (half, half), (0, 0)))
    windows = sliding_window_view(padded, (_SIDE, _SIDE), axis=(0, 1))  # pyright: ignore[reportCallIssue, reportArgumentType]
    energy = sliding_window_view(np.pad((features[..., :3] ** 2).sum(-1), 3), (7, 7)).sum((2, 3))
    rows, columns = np.unravel_index(np.argsort(-energy, axis=None)[:_PLACES], energy.shape)
    chosen = np.moveaxis(windows[rows, columns], 1, -1).reshape(_PLACES, -1)
    gains = kernels @ chosen.T
    order = _chosen(np.argsort(-gains.max(1)), wanted)
    places = gains.argmax(1)
    return [
        replace(
            poses[index],
            x=float(_STEP * (columns[places[index]] + 0.5)),
            y=float(_STEP * (rows[places[index]] + 0.5)),
        )
        for index in order
    ]


def _chosen(order: np.ndarray, wanted: str | None) -> list[int]:
    """The first poses of this order, but not too many of one object, at least of two, and some of `wanted`."""
    poses, _ = _bank()
    taken: dict[str, list[int]] = {}
    for index in order:
        mine = taken.setdefault(poses[index].name, [])
        if len(mine) < _OF_ONE:
            mine.append(index)
        if sum(map(len, taken.values())) >= _TRIED and len(taken) > 1:
            break
    if wanted is not None and wanted not in taken:
        taken[wanted] = [index for index in order if poses[index].name == wanted][:_RIVALS]
    return [index for mine in taken.values() for index in mine]


def _rivals(poses: list[Pose], wanted: str | None, starts: int) -> list[Pose]:
    """The best pose of each of the best objects, and other poses of the very best object."""
    firsts: dict[str, Pose] = {}
    for pose in poses:
        firsts.setdefault(pose.name, pose)
    names = list(firsts)[:_RIVALS]
    if wanted in firsts and wanted not in names:
        names.append(wanted)
    ways = [firsts[names[0]]]
    for pose in poses:
        if pose.name == names[0] and not any(_alike(pose, way) for way in ways):
            ways.append(pose)
    return [firsts[name] for name in names[1:]] + ways[:starts]


def _around(pose: Pose) -> Iterator[Pose]:
    """The ways in which a pose is mistaken: turned over, the other way round, turned a little, too large or small."""
    for angle in (pose.angle + np.pi, pose.angle + 0.35, pose.angle - 0.35):
        yield replace(pose, angle=angle)
    for angle in {-pose.angle, 0.0}:
        yield replace(pose, angle=angle, mirrored=not pose.mirrored)
    for size in (pose.size * 1.1, pose.size / 1.1):
        yield replace(pose, size=size)


def _alike(one: Pose, other: Pose) -> bool:
    turn = abs((one.angle - other.angle + np.pi) % (2 * np.pi) - np.pi)
    return one.mirrored == other.mirrored and turn < _ALIKE


def _approached(frame: Floats, scenery: Floats, pose: Pose, step: int, rounds: int) -> Pose:
    """Damped Gauss-Newton steps towards the best pose, on pictures reduced by `step`."""
    damping = 1.0
    task = _Task(frame, scenery, pose)
    error = task.error(pose, step)
    for _ in range(rounds):
        moved = _stepped(task, pose, step, damping)
        now = task.error(moved, step)
        if now >= error:
            damping *= 10
            continue
        gain, pose, error, damping = 1 - now / error, moved, now, damping * 0.2
        if gain < 1e-3:
            break
    return pose


def _pooled(picture: Floats, step: int) -> Floats:
    if step == 1:
        return picture
    rows = sum(picture[:, row::step] for row in range(step))
    return sum(rows[..., column::step] for column in range(step)) / np.float32(step * step)  # pyright: ignore


_MOVES = (("x", 0.5), ("y", 0.5), ("size", 0.8), ("angle", 0.03))


def _stepped(task: _Task, pose: Pose, step: int, damping: float) -> Pose:
    sprite = task.sprite(pose)
    base = _over(sprite, task.scenery, pose.tint)
    slopes = []
    for name, by in _MOVES:
        moved = replace(pose, **{name: getattr(pose, name) + by})
        slopes.append(_pooled((task.picture(moved) - base) / np.float32(by), step).ravel())
    for channel in range(3):
        only = np.zeros_like(base)
        only[channel] = sprite[channel]
        slopes.append(_pooled(only, step).ravel())
    slopes = np.stack(slopes)
    normal = (slopes @ slopes.T).astype(np.float64)
    aim = (slopes @ _pooled(task.frame - base, step).ravel()).astype(np.float64)
    normal[range(7), range(7)] *= 1 + 0.02 * damping
    weight = _TINT_WEIGHT / step**2
    normal[range(7), range(7)] += [1e-3] * 4 + [weight] * 3
    aim[4:] += weight * (_TINT - np.array(pose.tint))
    return _changed(pose, np.linalg.solve(normal, aim))


def _changed(pose: Pose, change: np.ndarray) -> Pose:
    limits = np.array([4.0, 4.0, 5.0, 0.25])
    right, down, grow, turn = np.clip(change[:4], -limits, limits)
    red, green, blue = np.clip(np.array(pose.tint) + change[4:], *_TINT_LIMITS)
    return replace(
        pose,
        x=float(np.clip(pose.x + right, -20, SIZE + 20)),
        y=float(np.clip(pose.y + down, -20, SIZE + 20)),
        size=float(np.clip(pose.size + grow, 14, 64)),
        angle=float(pose.angle + turn),
        tint=(float(red), float(green), float(blue)),
    )
