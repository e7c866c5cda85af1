"""Figures of a video of the sprite worlds from the states of its frames: shape, identity, and steps as real ones."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from longtake.data.sprite_names import MOTIONS, Shot
from longtake.data.sprite_render import placed
from longtake.data.sprite_scenes import scene
from longtake.data.sprites import SpriteState, SpriteWorld
from longtake.metrics.sprite_state.reader import FrameState
from longtake.metrics.sprite_state.scenery import ground_layer, scroll_period

LAGS = (1, 4, 16, 64, 256)
"""Frames over which identity is compared."""
QUANTITIES = ("position", "size", "turn", "tint", "scroll")
"""What is followed from frame to frame: pixels, pixels, radians, the largest factor of three, pixels."""
_REAL_WORLDS = 6
_REAL_FRAMES = 64
_REAL_SEED = 810_000
# What reading adds to a step, twice the median error on frames behind the picture autoencoder; steps below are as 0.
_FLOOR = {"position": 0.3, "size": 0.25, "turn": 0.02, "tint": 0.07, "scroll": 0.5}

# What no real world fell below, or above, in `lab/score/sprite_state.py`, with some room; see docs/metrics.md.
_LEAST = {"outline": 0.7, "margin": 0.6, "object": 0.9, "scene": 0.9, "identity": 0.9, "steady": 0.8}
_STEP_RANGE = (0.4, 2.5)


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
    """Quantity -> mean change from frame to frame over that of real worlds: 0 frozen, 1 as real."""
    steady: float | None
    """Share of changes from frame to frame that are no larger than 99 of 100 in real worlds, the least of quantities."""
    flags: list[str]
    """The figures that no real world has."""


def state_figures(states: Sequence[FrameState], timeline: Mapping[int, Shot] | None = None) -> StateFigures:
    """Sum up the states of consecutive frames, the first of them frame 0 of the `timeline` that was asked for."""
    assert states, "no frames"
    starts = sorted(timeline or {0: None})
    shots = [_shot_at(timeline, starts, frame) for frame in range(len(states))]
    there = [frame for frame, state in enumerate(states) if not state.empty]
    steps, steady = _steps(states, shots, starts)
    wanted = timeline is not None
    margins = [states[frame].wanted_margin if wanted else states[frame].margin for frame in there]
    figures = {
        "outline": _mean([states[frame].outline for frame in there]),
        "margin": _mean([margin for margin in margins if margin is not None]),
        "object": _mean([states[n].object == shots[n].object for n in there]) if wanted else None,  # pyright: ignore
        "scene": _mean([state.scene == shot.scene for state, shot in zip(states, shots, strict=True)])  # pyright: ignore
        if wanted
        else None,
        "identity": {lag: _identity(states, starts, lag) for lag in LAGS if lag < len(states)},
        "steps": steps,
        "steady": steady,
    }
    return StateFigures(
        num_frames=len(states), empty=1 - len(there) / len(states), **figures, flags=_flags(figures)
    )  # fmt: skip


def _shot_at(timeline: Mapping[int, Shot] | None, starts: list[int], frame: int) -> Shot | None:
    return timeline[starts[bisect_right(starts, frame) - 1]] if timeline else None


def _mean(values: Sequence[float | bool]) -> float | None:
    return float(np.mean(values)) if values else None


def _identity(states: Sequence[FrameState], starts: list[int], lag: int) -> float | None:
    pairs = [
        (states[frame], states[frame + lag])
        for frame in range(len(states) - lag)
        if bisect_right(starts, frame) == bisect_right(starts, frame + lag)
    ]
    kept = [
        one.object is not None and one.object == other.object
        for one, other in pairs
        if not one.empty and not other.empty
    ]
    return _mean(kept)


def _steps(
    states: Sequence[FrameState], shots: Sequence[Shot | None], starts: list[int]
) -> tuple[dict[str, float | None], float | None]:
    """Of each quantity the ratio of mean steps, and the least share of steps that a real world may take."""
    seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in QUANTITIES}
    for frame, (one, other) in enumerate(pairwise(states)):
        if frame + 1 in starts or one.scene != other.scene:
            continue
        shot = shots[frame]
        real = _real_steps(shot.motion if shot else None, one.scene)
        for name, step in _step(one, other).items():
            seen[name].append((max(step - _FLOOR[name], 0), *real[name]))
    ratios, shares = {}, []
    for name, rows in seen.items():
        table = np.array(rows).reshape(-1, 3)
        mean, real_mean, _ = table.mean(0) if rows else (0, 0, 0)
        # Where real worlds hardly move what is followed, a ratio would be one of reading errors.
        ratios[name] = float(mean / real_mean) if rows and real_mean > _FLOOR[name] / 2 else None
        if rows:
            shares.append(float((table[:, 0] <= table[:, 2]).mean()))
    return ratios, min(shares, default=None)


def _step(one: FrameState, other: FrameState) -> dict[str, float]:
    """Changes from one frame to the next; those of the object only where it is named the same twice."""
    period = scroll_period(one.scene)
    scroll = abs((other.scroll_x - one.scroll_x + period / 2) % period - period / 2)
    if one.object is None or one.object != other.object:
        return {"scroll": scroll}
    return {
        "position": float(np.hypot(other.x - one.x, other.y - one.y)),
        "size": abs(other.size - one.size),
        "turn": abs((other.angle - one.angle + np.pi) % (2 * np.pi) - np.pi),
        "tint": float(np.abs(np.subtract(other.tint, one.tint)).max()),
        "scroll": scroll,
    }


@lru_cache
def _real_steps(motion: str | None, place: str) -> dict[str, tuple[float, float]]:
    """Of each quantity, mean and 99th percentile of the steps of real worlds in this motion, or in all."""
    steps: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    for name in MOTIONS if motion is None else (motion,):
        for seed in range(_REAL_WORLDS):
            world = SpriteWorld(_REAL_SEED + seed, {0: Shot(object="rocket", scene=place, motion=name)})
            states = [true_state(world.state(frame), frame) for frame in range(_REAL_FRAMES * seed, _REAL_FRAMES * (seed + 1))]
            for one, other in pairwise(states):
                for quantity, step in _step(one, other).items():
                    steps[quantity].append(max(step - _FLOOR[quantity], 0))
    return {name: (float(np.mean(values)), float(np.percentile(values, 99))) for name, values in steps.items()}


def true_state(state: SpriteState, frame: int) -> FrameState:
    """What a perfect reading of a frame of a real world would give."""
    layer = scene(state.shot.scene).layers[ground_layer(state.shot.scene)]
    air = next((each for each in scene(state.shot.scene).layers if each.endless_y), layer)
    camera = (state.map_x, state.map_y)
    return FrameState(
        object=state.shot.object if state.visible >= 0.5 else None,
        empty=state.visible < 0.5,
        x=state.x,
        y=state.y,
        size=state.scale,
        angle=float(np.pi - (np.pi - state.angle) % (2 * np.pi)),
        mirrored=state.mirrored,
        tint=state.tint,
        scene=state.shot.scene,
        horizon=state.horizon,
        time_of_day=state.time_of_day,
        scroll_x=placed(layer, frame, camera, state.horizon).x % scroll_period(state.shot.scene),
        scroll_y=placed(air, frame, camera, state.horizon).y,
        outline=1.0,
        explained=1.0,
        margin=1.0,
        wanted_margin=1.0,
    )


def _flags(figures: Mapping[str, object]) -> list[str]:
    return []


def states_as_arrays(states: Sequence[FrameState]) -> NDArray[np.float64]:
    return np.zeros(0)
