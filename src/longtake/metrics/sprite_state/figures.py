"""Figures of a video of the sprite worlds from the states of its frames: shape, identity, and steps as real ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from longtake.data.sprite_captions import MOTIONS, OBJECTS, Shot
from longtake.data.sprite_render import placed
from longtake.data.sprite_scenes import scene
from longtake.data.sprites import SpriteWorld
from longtake.metrics.sprite_state.reader import LEAST_VISIBLE, FrameState, shot_at, whole_turn
from longtake.metrics.sprite_state.scenery import Scenery, scroll, scroll_period

LAGS = (1, 4, 16, 64, 256)
"""Frames over which identity is compared."""
QUANTITIES = ("position", "size", "turn", "tint", "scroll")
"""What is followed from frame to frame: pixels, pixels, radians, the factor that changes most, pixels."""
READING_ERROR = {"position": 0.15, "size": 0.12, "turn": 0.01, "tint": 0.035, "scroll": 0.25}
"""Median error of each on frames behind the picture autoencoder; docs/metrics.md says how that was measured."""
LEAST = {"outline": 0.7, "margin": 0.65, "object": 0.9, "scene": 0.9, "identity": 0.9, "steady": 0.7}
"""What is flagged when it is lower; real worlds behind the picture autoencoder are not."""
STEP_RANGE = (0.4, 2.5)
"""Ratios of steps outside are flagged."""
_REAL_WORLDS = 6
_REAL_FRAMES = 48
_REAL_SEED = 810_000


@dataclass(frozen=True, kw_only=True)
class StateFigures:
    """Figures of a whole video; shares and qualities are 0 to 1, and 1 in a real world."""

    num_frames: int
    """Frames read."""
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
        flags=[],
    )
    return replace(figures, flags=_flags(figures))


def _mean(values: Sequence[float | bool]) -> float | None:
    return float(np.mean(values)) if values else None


def _identity(states: Sequence[FrameState], parts: Sequence[int], lag: int) -> float | None:
    pairs = [
        (one, other)
        for one, other, part, later in zip(states, states[lag:], parts, parts[lag:], strict=False)
        if part == later and not one.empty and not other.empty
    ]
    return _mean([one.object is not None and one.object == other.object for one, other in pairs])


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
    shares = {name: getattr(figures, name) for name in ("outline", "margin", "object", "scene", "steady")}
    shares |= {f"identity {lag}": share for lag, share in figures.identity.items()}
    low = [name for name, share in shares.items() if share is not None and share < LEAST[name.split()[0]]]
    least, most = STEP_RANGE
    return low + [
        f"step {name}" for name, ratio in figures.steps.items() if ratio is not None and not least <= ratio <= most
    ]
