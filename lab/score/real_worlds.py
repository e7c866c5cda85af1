"""What figures over long time real sprite worlds have, from which their bounds come, and which of them controls put out
of order."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.score.spoilt import melted
from lab.score.stories import told
from longtake.apps.compare.finished import numbers
from longtake.data.sprites import Shot, SpriteWorld, Timeline, held_out_shots
from longtake.metrics.consistency import consistency
from longtake.metrics.controls import CONTROLS
from longtake.metrics.of_video import Drift, OfVideo, Prompts, Similarity, State, Switches
from longtake.report import Order

Frames = NDArray[np.uint8]
_SEED = 900_000
_SLIDE = 12
_WINDOW = 16
_NOWHERE = Path("worlds")
"""Worlds are drawn on the spot, so that there is no file."""


def slides(clip: Frames, seed: int) -> Frames:
    """Every twelfth frame, held until the next and shaken by a pixel."""
    rng = np.random.default_rng(seed)
    held = clip[np.arange(len(clip)) // _SLIDE * _SLIDE]
    return np.stack([np.roll(frame, rng.integers(-1, 2, 2), axis=(0, 1)) for frame in held])


def drifted(clip: Frames, seed: int) -> Frames:
    """Colours that go over into orange, by half at the end."""
    share = np.linspace(0, 0.5, len(clip))[:, None, None, None]
    return (clip * (1 - share) + np.array([255, 128, 0]) * share).astype(np.uint8)


def copied(clip: Frames, seed: int) -> Frames:
    """The first window again and again, so that every seam is a copy of the first one."""
    return clip[np.arange(len(clip)) % _WINDOW]


LONG: dict[str, Callable[[Frames, int], Frames]] = {
    "frozen": CONTROLS["frozen"],
    "looped": CONTROLS["looped"],
    "shuffled": CONTROLS["shuffled"],
    "slide show": slides,
    "drifted colours": drifted,
    "copied seams": copied,
}
"""What is done to a whole video: name -> function of (frames, seed); "wrong prompt" and "melted" are beside it."""


def wrong(shot: Shot) -> Shot:
    """Return a shot with nothing in common."""
    others = (other for other in held_out_shots() if other.scene != shot.scene and other.motion != shot.motion)
    return next(other for other in others if other.object != shot.object)


def controls(world: SpriteWorld, num_frames: int) -> Iterator[tuple[str, Frames, Timeline]]:
    """Yield the real video, then every control: its name, its frames, and what is said to have been asked for.

    What is spoilt in a video of several shots is each by itself, so that the changes which were asked for are still
    there; colours drift through all of them.
    """
    timeline, frames = world.timeline, world.frames(0, num_frames)
    yield "real", frames, timeline
    for name, change in LONG.items():
        starts = [0] if change is drifted else list(timeline)
        pieces = [change(frames[start:stop], world.seed) for start, stop in pairwise([*starts, num_frames])]
        yield name, np.concatenate(pieces), timeline
    yield "wrong prompt", frames, {start: wrong(shot) for start, shot in timeline.items()}
    yield "melted", melted(world, range(num_frames)), timeline


def figures(
    frames: Frames, timeline: Timeline, metrics: Mapping[str, OfVideo], order: Order | None = None
) -> dict[str, dict[str, Any]]:
    """Return the figures of a video by metric."""
    found = {}
    for name, metric in metrics.items():
        if isinstance(metric, Prompts | State | Switches):
            metric = replace(metric, prompts=told(timeline))
        batches = (frames[start : start + 16] for start in range(0, len(frames), 16))
        found[name] = metric.judged(batches, order)
    return found


METRICS: Mapping[str, OfVideo] = {
    "drift": Drift(path=_NOWHERE),
    "similarity": Similarity(path=_NOWHERE),
    "prompts": Prompts(path=_NOWHERE),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is drawn; 0 leaves a part out."""

    worlds: int = 60  # for what real ones have
    frames: int = 512  # of each of them
    controls: int = 4  # worlds that are spoilt
    length: int = 160  # frames of each of those
    state: bool = False  # draw their frames again, too: minutes


def score(chosen: Settings) -> str:
    """Return a table of what real worlds have, and one of how often controls put figures out of order."""
    shots = held_out_shots()
    picks = np.random.default_rng(0).integers(len(shots), size=max(chosen.worlds, chosen.controls))
    worlds = [SpriteWorld(_SEED + number, {0: shots[pick]}) for number, pick in enumerate(picks)]
    lines = real_rows(worlds[: chosen.worlds], chosen.frames) if chosen.worlds else []
    metrics = dict(METRICS) | ({"state": State(path=_NOWHERE)} if chosen.state else {})
    lines += ["", *control_rows(worlds[: chosen.controls], chosen.length, metrics)] if chosen.controls else []
    return "\n".join(lines)


def real_rows(worlds: list[SpriteWorld], num_frames: int) -> list[str]:
    """Return the least, the median and the most of every figure."""
    rows: dict[str, list[float]] = {}
    for world in worlds:
        frames = world.frames(0, num_frames)
        found = figures(frames, world.timeline, {name: METRICS[name] for name in ("drift", "similarity")})
        # A world has no seams: what is found where a model would have some.
        found["drift"]["seam_ratio"] = consistency([frames], seams=range(_WINDOW, num_frames, _WINDOW)).seam_ratio
        for name, each in found.items():
            for figure, value in numbers(each, METRICS[name].spoken).items():
                rows.setdefault(f"{name}: {figure}", []).append(value)
    lines = [f"| {len(worlds)} worlds of {num_frames} frames | least | median | most |", "|" + " --- |" * 4]
    for name, values in rows.items():
        least, middle, most = np.percentile(values, [0, 50, 100])
        lines.append(f"| {name} | {least:.3f} | {middle:.3f} | {most:.3f} |")
    return lines


def control_rows(worlds: list[SpriteWorld], num_frames: int, metrics: Mapping[str, OfVideo]) -> list[str]:
    """Return of every control how many of the worlds have which figures out of order."""
    flags: dict[str, dict[str, int]] = {}
    for world in worlds:
        for name, frames, timeline in controls(world, num_frames):
            seen = flags.setdefault(name, {})
            for metric, found in figures(frames, timeline, metrics).items():
                for flag in found["flags"]:
                    seen[f"{metric}: {flag}"] = seen.get(f"{metric}: {flag}", 0) + 1
    lines = [f"| {len(worlds)} worlds of {num_frames} frames | out of order |", "| --- | --- |"]
    for name, seen in flags.items():
        said = ", ".join(f"{figure.replace('_', ' ')} {count}" for figure, count in seen.items())
        lines.append(f"| {name} | {said or 'nothing'} |")
    return lines
