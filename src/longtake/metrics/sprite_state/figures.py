"""Figures of a video of the sprite worlds from the states of its frames: shape, identity, steps as real ones, what no
caption says, and the clock of its motion."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtake.data.sprite_captions import MOTIONS, OBJECTS, SCENES, Shot
from longtake.data.sprite_paint import PERIOD
from longtake.data.sprite_render import Pose, placed
from longtake.data.sprite_scenes import scene
from longtake.data.sprites import SpriteWorld
from longtake.metrics.consistency import Curve, VideoFigures
from longtake.metrics.sprite_state import BOUNDS
from longtake.metrics.sprite_state.reader import LEAST_VISIBLE, FrameState, shot_at, whole_turn
from longtake.metrics.sprite_state.scenery import Scenery, scroll, scroll_period

LAGS = (1, 4, 16, 64, 256)
"""Frames over which identity is compared."""
QUANTITIES = ("position", "size", "turn", "tint", "scroll")
"""What is followed from frame to frame: pixels, pixels, radians, the factor that changes most, pixels."""
READING_ERROR = {
    "position": 0.15, "size": 0.12, "turn": 0.01, "tint": 0.035, "scroll": 0.25, "horizon": 0.12, "time of day": 0.021
}  # fmt: skip
"""Median error of each on frames behind the picture autoencoder; docs/metrics.md says how that was measured."""
WINDOW = 28
"""Frames over which the clock of a motion is read: two turns of it."""
LONGEST_ABSENCE = 24
"""Frames within which an object that has left a real world is back."""
_REAL_WORLDS = 6
_REAL_WORLDS_OVER_TIME = 32
_NO_MOTION = 0.01
_OF_TWO = 5
"""Median errors of one reading that 99 of 100 differences of two stay below, where errors are normal."""
_REAL_FRAMES = 48
_REAL_SEED = 810_000


@dataclass(frozen=True, kw_only=True)
class StateFigures(VideoFigures):
    """Figures of a whole video; shares and qualities are 0 to 1, and 1 in a real world."""

    empty: float
    """Share of frames without object; the figures of the object leave them out."""
    outline: float | None
    """Mean agreement of the object's edges with those of the true sprite; None where all frames are empty."""
    margin: float | None
    """Mean lead of the best object over the next one, or of the object asked for over all others (then -1 to 1)."""
    object: float | None
    """Share of frames whose best object is the one asked for; None where none was."""
    scene: float | None
    """Share of frames in the scene asked for; None where none was."""
    identity: dict[int, float | None]
    """Lag in frames -> share of pairs of frames so far apart, in one shot, that show the same object."""
    steps: dict[str, float | None]
    """Quantity -> median change from frame to frame over that of real worlds: 0 frozen, 1 as real; None where no
    motion was asked for, or real worlds change by less than what reading errs by."""
    steady: float | None
    """Share of the object's changes from frame to frame that are within 99 of 100 of real worlds: of position, size,
    turn and tint the least."""
    kept: dict[int, float | None]
    """Lag in frames -> share of pairs of frames so far apart, in one shot and of one object, whose size, tint, horizon
    and time of day, of which no caption speaks, differ by no more than 99 of 100 pairs of real worlds do."""
    speed: float | None
    """Mean speed of the motion over that of real worlds: 1 real, 0 frozen, below 0 backwards; None where no motion was
    asked for that goes anywhere."""
    phase: float | None
    """How well one clock that goes steadily through two turns explains where the object is, 0 to 1; None where no
    motion was asked for that comes round."""
    absences: int
    """How often the object left for three frames or more."""
    returned: float | None
    """Share of these after which the same object was back within 24 frames; None where there were none."""
    curves: dict[str, list[float]]
    """Over the length: outline and margin; an empty frame has what was before it."""
    flags: list[str]
    """The figures that no real world has, even behind the picture autoencoder."""


def state_figures(states: Sequence[FrameState], timeline: Mapping[int, Shot] | None = None) -> StateFigures:
    """Sum up the states of consecutive frames, the first of them frame 0 of the `timeline` that was asked for."""
    assert states, "no frames"
    shots = [None if timeline is None else shot_at(timeline, frame) for frame in range(len(states))]
    parts = [0] * len(states) if timeline is None else [max(n for n in timeline if n <= f) for f in range(len(states))]
    pairs = [pair for pair in pairwise(range(len(states))) if parts[pair[0]] == parts[pair[1]]]
    ratios, steady = _steps([(states[one], states[other], shots[one]) for one, other in pairs])
    there = [(state, shot) for state, shot in zip(states, shots, strict=True) if not state.empty]
    margins = [state.margin if state.wanted_margin is None else state.wanted_margin for state, _ in there]
    figures = StateFigures(
        num_frames=len(states),
        empty=1 - len(there) / len(states),
        outline=_mean([state.outline for state, _ in there]),
        margin=_mean(margins),
        object=_mean([state.object == shot.object for state, shot in there if shot]),
        scene=_mean([state.scenery.name == shot.scene for state, shot in zip(states, shots, strict=True) if shot]),
        identity={lag: _identity(states, parts, lag) for lag in LAGS if lag < len(states)},
        steps=ratios,
        steady=steady,
        kept={lag: _kept(states, parts, shots, lag) for lag in LAGS if lag < len(states)},
        **_clock(states, parts, shots),
        **_returns(states, parts),
        curves={name: _curve([None if state.empty else getattr(state, name) for state in states])
                for name in ("outline", "margin")},
        flags=[],
    )  # fmt: skip
    return replace(figures, flags=_flags(figures))


def _mean(values: Sequence[float | bool]) -> float | None:
    return float(np.mean(values)) if values else None


def _curve(values: Sequence[float | None]) -> list[float]:
    curve, last = Curve(), 1.0
    for value in values:
        last = last if value is None else value
        curve.add(last)
    return curve.values


def _identity(states: Sequence[FrameState], parts: Sequence[int], lag: int) -> float | None:
    pairs = [(states[one], states[one + lag]) for one in _pairs(states, parts, lag)]
    return _mean([one.object is not None and one.object == other.object for one, other in pairs])


def _pairs(states: Sequence[FrameState], parts: Sequence[int], lag: int) -> Iterator[int]:
    """Yield the first frames of pairs so far apart, in one shot, neither of them empty."""
    for one, other in zip(range(len(states)), range(lag, len(states)), strict=False):
        if parts[one] == parts[other] and not states[one].empty and not states[other].empty:
            yield one


def _kept(states: Sequence[FrameState], parts: Sequence[int], shots: Sequence[Shot | None], lag: int) -> float | None:
    real, kept = _real_changes(lag), []
    for number in _pairs(states, parts, lag):
        one, other, shot = states[number], states[number + lag], shots[number]
        if one.object == other.object and one.scenery.name == other.scenery.name:
            changes = _changes(one, other)
            # A motion that changes the size leaves nothing to keep; without a prompt it could be any.
            asked = changes if shot and shot.motion != "pulses" else changes.keys() - {"size"}
            kept.append(all(changes[name] <= real[name] for name in asked))
    return _mean(kept)


def _changes(one: FrameState, other: FrameState) -> dict[str, float]:
    return {
        "size": abs(other.pose.size - one.pose.size),
        "tint": float(np.abs(np.subtract(other.pose.tint, one.pose.tint)).max()),
        "horizon": abs(other.scenery.horizon - one.scenery.horizon),
        "time of day": abs(other.scenery.time_of_day - one.scenery.time_of_day),
    }


@lru_cache
def _real_changes(lag: int) -> dict[str, float]:
    """Of what no caption speaks, the change of real worlds over a lag that 99 of 100 are below, as it is read."""
    shot = Shot(object=OBJECTS[0], scene=SCENES[0], motion="rests")
    worlds = [SpriteWorld(_REAL_SEED + number, {0: shot}) for number in range(_REAL_WORLDS_OVER_TIME)]
    pairs = [(world.state(frame), world.state(frame + lag)) for world in worlds for frame in range(0, 3000, 300)]
    changes = {
        "size": [abs(one.pose.size - other.pose.size) for one, other in pairs],
        "tint": [float(np.abs(np.subtract(one.pose.tint, other.pose.tint)).max()) for one, other in pairs],
        "horizon": [abs(one.horizon - other.horizon) for one, other in pairs],
        "time of day": [abs(one.time_of_day - other.time_of_day) for one, other in pairs],
    }
    return {name: float(np.percentile(values, 99)) + _OF_TWO * READING_ERROR[name] for name, values in changes.items()}


def _returns(states: Sequence[FrameState], parts: Sequence[int]) -> dict[str, Any]:
    """How often the object leaves, and how often the same one is back in time."""
    back: list[bool] = []
    absences = 0
    for start, stop in _empty_runs(states, parts):
        absences += 1
        is_over = stop < len(states) and parts[stop] == parts[start]
        # One that ends with the shot has had no time to come back, unless it was long.
        if is_over or stop - start > LONGEST_ABSENCE:
            same = is_over and _named(states[max(start - 4, 0) : start]) == _named(states[stop : stop + 4])
            back.append(same and stop - start <= LONGEST_ABSENCE)
    return {"absences": absences, "returned": _mean(back)}


def _empty_runs(states: Sequence[FrameState], parts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield start and stop of three empty frames or more in one shot, behind one with an object."""
    start = None
    for frame in range(len(states) + 1):
        goes_on = frame < len(states) and states[frame].empty and (start is None or parts[frame] == parts[start])
        if goes_on and start is None and frame and not states[frame - 1].empty and parts[frame] == parts[frame - 1]:
            start = frame
        elif not goes_on and start is not None:
            if frame - start >= 3:
                yield start, frame
            start = None


def _named(states: Sequence[FrameState]) -> str | None:
    """Return what most of some frames show."""
    names = [state.object for state in states if state.object]
    return max(sorted(set(names)), key=names.count, default=None)


def _clock(states: Sequence[FrameState], parts: Sequence[int], shots: Sequence[Shot | None]) -> dict[str, float | None]:
    """Read speed and phase of the motions that were asked for, window by window of a shot."""
    speeds, phases = [], []
    for start in range(0, len(states) - WINDOW + 1, WINDOW // 2):
        window, shot = states[start : start + WINDOW], shots[start]
        if shot is None or parts[start] != parts[start + WINDOW - 1]:
            continue
        if shot.motion in _CLOCKS:
            speed, phase = _turning(window, shot.motion)
            phases.append(phase)
        else:
            speed = _travelling(window, shot)
        speeds += [] if speed is None else [speed]
    return {"speed": _mean(speeds), "phase": _mean(phases)}


_CLOCKS: dict[str, tuple[Callable[[Any], tuple], Callable[[Pose], tuple], bool]] = {
    "circles": (lambda turn: (10 * np.cos(turn), 10 * np.sin(turn)), lambda pose: (pose.x, pose.y), True),
    "bounces": (lambda turn: (-22 * np.abs(np.sin(turn / 2)),), lambda pose: (pose.y,), False),
    "swings": (
        lambda turn: (11 * np.sin(turn), 16 * 0.6 * np.sin(turn)), lambda pose: (pose.x, 16 * pose.angle), False
    ),
    "spins": (
        lambda turn: (16 * np.cos(turn), -16 * np.sin(turn)),
        lambda pose: (16 * np.cos(pose.angle), 16 * np.sin(pose.angle)),
        True,
    ),
    "pulses": (lambda turn: (0.27 * 33 * np.sin(turn),), lambda pose: (pose.size,), False),
}  # fmt: skip
"""Motion -> where a turn of its clock has the object, where a drawing has it, both in pixels, and whether it looks
otherwise when it is played backwards; as the worlds are drawn."""
_SPEEDS = np.linspace(-2, 2, 81)


@lru_cache
def _turns(motion: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return speeds, and where clocks of these have the object: (speeds, phases, frames, numbers)."""
    places, _, has_direction = _CLOCKS[motion]
    speeds = _SPEEDS if has_direction else _SPEEDS[_SPEEDS >= 0]
    # A whole turn of what bounces is two of the sine.
    phases = np.arange(32) / 32 * 2 * np.pi
    turn = 2 * np.pi / 14 * speeds[:, None, None] * np.arange(WINDOW) + phases[:, None]
    return speeds, np.stack(places(turn), axis=-1)


def _turning(window: Sequence[FrameState], motion: str) -> tuple[float | None, float]:
    """Return the speed of the clock that explains a window best, None where none does, and how well: twice the product
    of both courses over the sum of their squares, without their means."""
    there = np.array([not state.empty for state in window])
    if there.sum() < WINDOW // 2:
        return None, 0.0
    speeds, clocks = _turns(motion)
    seen = np.array([_CLOCKS[motion][1](state.pose) for state in window])[there]
    seen, clocks = seen - seen.mean(0), clocks[:, :, there] - clocks[:, :, there].mean(2, keepdims=True)
    both = (clocks**2).sum((2, 3)) + (seen**2).sum()
    agreement = 2 * (clocks * seen).sum((2, 3)) / np.maximum(both, 1e-9)
    best = np.unravel_index(agreement.argmax(), agreement.shape)
    found = float(agreement[best])
    return (float(speeds[best[0]]), found) if found > _NO_MOTION else (0.0, 0.0)


def _travelling(window: Sequence[FrameState], shot: Shot) -> float | None:
    """Return how fast the scene goes by, over how fast a real one does; None for what stays where it is."""
    ahead = _real_scroll(shot)
    seen = [_scrolled(one, other, shot.motion) for one, other in pairwise(window)]
    told = [step for step in seen if step is not None]
    return float(np.median(told)) / ahead if ahead and len(told) >= WINDOW // 2 else None


def _scrolled(one: FrameState, other: FrameState, motion: str) -> float | None:
    """Return by how much the scene moves against the motion that was asked for, or along it; None for another scene."""
    if one.scenery.name != other.scenery.name:
        return None
    axis = int(motion in ("flies up", "dives down"))
    period = PERIOD if axis else scroll_period(one.scenery.name)
    return (other.scroll[axis] - one.scroll[axis] + period / 2) % period - period / 2


@lru_cache
def _real_scroll(shot: Shot) -> float:
    """Return the median scroll of real worlds from frame to frame, with its sign; 0 where they stay."""
    if shot.motion not in ("drives right", "sails left", "flies up", "dives down"):
        return 0.0
    worlds = [SpriteWorld(_REAL_SEED + number, {0: shot}) for number in range(_REAL_WORLDS)]
    states = [[true_state(world, frame) for frame in range(_REAL_FRAMES)] for world in worlds]
    steps = [_scrolled(one, other, shot.motion) for each in states for one, other in pairwise(each)]
    return float(np.median([step for step in steps if step is not None]))


def _steps(pairs: Sequence[tuple[FrameState, FrameState, Shot | None]]) -> tuple[dict[str, float | None], float | None]:
    """Of each quantity the ratio of mean steps, and the least share of steps that real worlds take."""
    seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in QUANTITIES}
    for one, other, shot in pairs:
        real = _real_steps(shot.motion if shot else None, one.object or OBJECTS[0], one.scenery.name)
        for name, step in _step(one, other).items():
            seen[name].append((step, *real[name]))
    tables = {name: np.array(rows) for name, rows in seen.items() if rows}
    told = [name for name in tables if pairs[0][2] is not None]
    ratios = {name: _ratio(name, tables[name]) if name in told else None for name in QUANTITIES}
    shares = [float((table[:, 0] <= table[:, 2]).mean()) for name, table in tables.items() if name != "scroll"]
    return ratios, min(shares, default=None)


def _ratio(name: str, table: NDArray[np.float64]) -> float | None:
    """None where real worlds hardly move: the ratio would be one of reading errors."""
    told = table[table[:, 1] > READING_ERROR[name]]
    return float(np.median(told[:, 0] / told[:, 1])) if len(told) else None


def _step(one: FrameState, other: FrameState) -> dict[str, float]:
    """Changes from one frame to the next; those of the object where it is the same, of the scene where that is."""
    steps = {}
    if one.object is not None and one.object == other.object:
        before, after = one.pose, other.pose
        steps = {
            "position": float(np.hypot(after.x - before.x, after.y - before.y)),
            "size": abs(after.size - before.size),
            "turn": abs((after.angle - before.angle + np.pi) % (2 * np.pi) - np.pi),
            "tint": float(np.abs(np.subtract(after.tint, before.tint)).max()),
        }
    if one.scenery.name == other.scenery.name:
        period = scroll_period(one.scenery.name)
        steps["scroll"] = abs((other.scroll[0] - one.scroll[0] + period / 2) % period - period / 2)
    return steps


@lru_cache
def _real_steps(motion: str | None, name: str, place: str) -> dict[str, tuple[float, float]]:
    """Of each quantity the median step of real worlds in this motion, or in all, and the 99th of 100 as it is read."""
    steps: dict[str, list[float]] = {quantity: [] for quantity in QUANTITIES}
    for each in MOTIONS if motion is None else (motion,):
        for number in range(_REAL_WORLDS):
            world = SpriteWorld(_REAL_SEED + number, {0: Shot(object=name, scene=place, motion=each)})
            states = [true_state(world, frame) for frame in _undisturbed(world)]
            for one, other in pairwise(states):
                for quantity, step in _step(one, other).items():
                    steps[quantity].append(step)
    return {
        quantity: (float(np.median(values)), float(np.percentile(values, 99)) + 3 * READING_ERROR[quantity])
        for quantity, values in steps.items()
    }


def _undisturbed(world: SpriteWorld) -> range:
    """Frames in which the object does not leave the picture."""
    starts = range(0, 4 * _REAL_FRAMES, _REAL_FRAMES)
    runs = (range(start, start + _REAL_FRAMES) for start in starts)
    return next(run for run in runs if all(world.state(frame).visible > 0.75 for frame in run))


def true_state(world: SpriteWorld, frame: int) -> FrameState:
    """What a perfect reading of a frame of a real world gives."""
    state = world.state(frame)
    name, camera = state.shot.scene, (state.map_x, state.map_y)
    places = tuple(placed(layer, frame, camera, state.horizon) for layer in scene(name).layers)
    scenery = Scenery(name=name, horizon=state.horizon, time_of_day=state.time_of_day, places=places)
    return FrameState(
        object=state.shot.object if state.visible >= LEAST_VISIBLE else None,
        empty=state.visible < LEAST_VISIBLE,
        pose=replace(state.pose, angle=whole_turn(state.pose.angle)),
        scenery=scenery,
        scroll=scroll(scenery),
        outline=1.0,
        explained=1.0,
        margin=1.0,
        wanted_margin=1.0,
    )


def _flags(figures: StateFigures) -> list[str]:
    """Names of the figures that lie outside what real worlds reach behind the picture autoencoder."""
    found = []
    for name, bound in BOUNDS.items():
        value = getattr(figures, name)
        values = {f"{name} {key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
        found += [key for key, one in values.items() if one is not None and not bound.holds(one)]
    return found
