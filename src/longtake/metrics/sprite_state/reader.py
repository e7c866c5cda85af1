"""Read the state of every frame of a video of the sprite worlds: what is drawn where, without being told."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from longtake.data.sprite_captions import Shot
from longtake.data.sprite_paint import SIZE, Floats
from longtake.data.sprite_render import Pose
from longtake.errors import InputError
from longtake.metrics.sprite_state.objects import Fit, by_worth, over, polished, read_object
from longtake.metrics.sprite_state.scenery import Scenery, read_again, read_scenery, scroll

# Below these an object is not there, or not to be told.
_LEAST_EXPLAINED = 0.3
LEAST_VISIBLE = 0.5
"""Share of its width that is inside the picture, below which an object is not named."""
# Outline quality from which a reading needs no second look.
_GOOD = 0.9
# Grey levels by which a scene without object differs from what is read of it: 0.7 on real frames, 0.5 to 3 more
# behind the autoencoder; an object that is half inside adds 4 and more.
_EMPTY = 5.0


@dataclass(frozen=True, kw_only=True)
class FrameState:
    """What one frame shows, read by drawing it again with the true sprites."""

    object: str | None
    """The sprite that explains the frame best; None where none explains it or less than half of it is inside."""
    empty: bool
    """Whether no object is there, because next to nothing differs from the empty scene."""
    pose: Pose
    """The best drawing of an object, whether it is there or not; its turn above -pi to pi."""
    scenery: Scenery
    """The best drawing of what is behind."""
    scroll: tuple[float, float]
    """Columns by which the ground has scrolled and rows by which the air has, modulo their periods."""
    outline: float
    """How well the edges in and around the object agree with those of the sprite: 1 the same, 0 not at all."""
    explained: float
    """Share of what differs from the empty scene that the sprite explains, at most 1."""
    margin: float
    """By how much the sprite fits better than the next best object: 0 not at all, 1 perfectly."""
    wanted_margin: float | None
    """By how much the object asked for fits better than any other, below 0 where another fits better; None where
    none was asked for."""


def read_state(frame: NDArray[np.uint8], wanted: str | None = None) -> FrameState:
    """The state of one frame, uint8 (64, 64, 3); `wanted` is the object asked for, if any."""
    picture = frame.astype(np.float32)
    scenery = read_scenery(picture)
    rough = read_object(picture, scenery.draw(), wanted)
    scenery, fits = _settled(picture, scenery, rough, wanted)
    if outline_quality(picture, scenery.draw(), fits[0].pose) < _GOOD:
        rough = read_object(picture, scenery.draw(), wanted, near=fits[0].pose)
        scenery, fits = _settled(picture, scenery, rough, wanted)
    behind = scenery.draw()
    pose = fits[0].pose
    named = fits[0].explained >= _LEAST_EXPLAINED and visible(pose) >= LEAST_VISIBLE
    return FrameState(
        object=pose.name if named else None,
        empty=not named and float(np.abs(picture - behind).mean()) < _EMPTY,
        pose=replace(pose, angle=whole_turn(pose.angle)),
        scenery=scenery,
        scroll=scroll(scenery),
        outline=outline_quality(picture, behind, pose),
        explained=fits[0].explained,
        margin=_margin(picture, behind, fits[0], fits[1:]),
        wanted_margin=_wanted_margin(picture, behind, fits, wanted),
    )


def _settled(picture: Floats, scenery: Scenery, rough: list[Fit], wanted: str | None) -> tuple[Scenery, list[Fit]]:
    """The scenery without what the best object hides, and the best two objects, and the one asked for, before it."""
    scenery = read_again(picture, scenery, (rough[0].pose.draw()[..., 3:] < 1).astype(np.float32))
    behind = scenery.draw()
    finals = [each.pose for place, each in enumerate(rough) if place < 2 or each.pose.name == wanted]
    return scenery, by_worth(polished(picture, behind, pose) for pose in finals)


def read_states(chunks: Iterable[NDArray[np.uint8]], timeline: Mapping[int, Shot] | None = None) -> list[FrameState]:
    """The state of each frame of a video by itself; `timeline` says from which frame on which shot was asked for.

    `chunks` are consecutive frames, uint8 (n, 64, 64, 3). InputError for other sizes, and for a video without frames.
    """
    states = []
    for frame in (frame for chunk in chunks for frame in chunk):
        if frame.shape != (SIZE, SIZE, 3):
            raise InputError(
                f"only {SIZE}x{SIZE} pixels can be read and this video has {frame.shape[1]}x{frame.shape[0]}; "
                f"set the scale by which it was enlarged"
            )
        wanted = shot_at(timeline, len(states)).object if timeline else None
        states.append(_seen_before(frame.tobytes(), wanted))
    if not states:
        raise InputError("the video has no frames, so nothing can be read")
    return states


@lru_cache(maxsize=1024)
def _seen_before(frame: bytes, wanted: str | None) -> FrameState:
    """The state of a frame; one that was there before, as in a loop, is not read again."""
    return read_state(np.frombuffer(frame, np.uint8).reshape(SIZE, SIZE, 3), wanted)


def shot_at(timeline: Mapping[int, Shot], frame: int) -> Shot:
    """What a timeline asks for at a frame."""
    return timeline[max(start for start in timeline if start <= frame)]


def whole_turn(angle: float) -> float:
    """The same angle above -pi and at most pi."""
    return float(np.pi - (np.pi - angle) % (2 * np.pi))


def visible(pose: Pose) -> float:
    """Share of the object's width that is inside the picture."""
    inside = min(pose.x + pose.size / 2, SIZE) - max(pose.x - pose.size / 2, 0)
    return float(np.clip(inside / pose.size, 0, 1))


def outline_quality(frame: Floats, behind: Floats, pose: Pose) -> float:
    """How well the edges of a frame agree with those of a sprite there, in and one pixel around the sprite.

    Twice the product of both fields of slopes over the sum of their squares: 1 for the same edges; lower where edges
    lie elsewhere, are missing, soft or too many. All float32 (64, 64, 3).
    """
    where = _spread(pose.draw()[..., 3] > 0)[1:-1, 1:-1]
    seen, true = _slopes(frame)[where], _slopes(over(pose, behind))[where]
    both = float((seen**2).sum() + (true**2).sum())
    return max(2 * float((seen * true).sum()) / both, 0.0) if both else 0.0


def _slopes(picture: Floats) -> NDArray[np.floating]:
    """Slopes to the right and down (Sobel), (62, 62, 6)."""
    two = np.float32(2)
    along = picture[:-2] + two * picture[1:-1] + picture[2:]
    across = picture[:, :-2] + two * picture[:, 1:-1] + picture[:, 2:]
    return np.concatenate([along[:, 2:] - along[:, :-2], across[2:] - across[:-2]], axis=-1)


def _spread(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    wide = np.pad(mask, 1)
    rows = wide[:-2] | wide[1:-1] | wide[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]


def _margin(frame: Floats, behind: Floats, best: Fit, others: list[Fit]) -> float:
    """Of the area of both objects: 1 minus the best one's squared error over the other's; below 0 for a worse one."""
    if not others:
        return 1.0
    other = others[0].pose
    area = (best.pose.draw()[..., 3] > 0) | (other.draw()[..., 3] > 0)
    ours, theirs = (float(((frame - over(pose, behind))[area] ** 2).sum()) for pose in (best.pose, other))
    return (theirs - ours) / max(ours, theirs, 1.0)


def _wanted_margin(frame: Floats, behind: Floats, fits: list[Fit], wanted: str | None) -> float | None:
    if wanted is None:
        return None
    mine = [each for each in fits if each.pose.name == wanted]
    others = [each for each in fits if each.pose.name != wanted]
    return _margin(frame, behind, mine[0], others) if mine else -1.0
