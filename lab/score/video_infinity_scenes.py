"""Changes of scene, which its authors call a weakness: python -m lab score scenes [--blend 16].

One object goes through thirteen scenes by a timeline of prompts. For a hard switch and for prompts that turn into each
other: frames until the judge sees the new scene, the shares of the frames around a switch that show the old scene, the
new one, both, or neither, and the change at the switch over the change elsewhere. FIFO-Diffusion and plain clips in a
row, which switch hard, stand beside them.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab.common import Frames, made_video, mean_of, measured_model, prompts_of, slug
from longtake.data.sprites import SCENES, Shot, is_held_out
from longtake.metrics.consistency import consistency
from longtake.metrics.judge import CLIP_FRAMES, Judge
from longtake.metrics.prompt_accuracy import prompt_accuracy, switch_response
from longtake.model import PerFrameNoise, VideoModel
from longtake.request import Request
from longtake.sampler import Sampler
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.fifo.plan import Fifo
from longtake.samplers.video_infinity.plan import VideoInfinity

Probabilities = NDArray[np.float32]

OBJECT, MOTION = "robot", "bounces"
# A scene shows where the judge gives it this much.
SEEN = 0.2


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is compared."""

    model: str = "sprites"
    changes: int = 12
    span: int = 64  # frames from one change to the next
    within: int = 16  # frames to each side of a switch that are looked at
    blend: tuple[int, ...] = (8, 16, 32)  # frames over which prompts mix
    seeds: int = 1
    steps: int | None = None  # denoising steps, where the sampler leaves a choice
    folder: Path = Path("runs/video-infinity-scenes")  # where the videos go


def scene_timeline(changes: int, span: int) -> dict[int, Shot]:
    """Return `changes` changes of scene, one every `span` frames; object and motion stay."""
    shots = [Shot(object=OBJECT, scene=scene, motion=MOTION) for scene in SCENES]
    trained = [shot for shot in shots if not is_held_out(shot)]
    # A step of 4 through the scenes puts unlike ones side by side.
    return {index * span: trained[4 * index % len(trained)] for index in range(changes + 1)}


def shares(old: Probabilities, new: Probabilities) -> dict[str, float]:
    """Return the shares of frames that show the old scene, the new one, both, or neither, given the probabilities."""
    sees_old, sees_new = old >= SEEN, new >= SEEN
    return {
        "old": float((sees_old & ~sees_new).mean()),
        "new": float((~sees_old & sees_new).mean()),
        "both": float((sees_old & sees_new).mean()),
        "neither": float((~sees_old & ~sees_new).mean()),
    }


def scene_probabilities(frames: Frames, judge: Judge) -> NDArray[np.float32]:
    """Return how likely the judge takes each frame, alone, for each scene, (frames, scenes and none)."""
    readings = judge.read_batch(np.repeat(frames[:, None], CLIP_FRAMES, axis=1))
    return np.stack([reading.probabilities["scene"] for reading in readings])


def around_switches(video: Frames, timeline: Mapping[int, Shot], within: int, judge: Judge) -> dict[str, float]:
    """Return the shares of the frames from `within` before each switch to `within` after it, averaged over switches."""
    found = []
    for before, now in pairwise(sorted(timeline)):
        seen = scene_probabilities(video[now - within : now + within], judge)
        old, new = (SCENES.index(timeline[start].scene) for start in (before, now))
        found.append(shares(seen[:, old], seen[:, new]))
    return mean_of(found)


def figures(video: Frames, timeline: Mapping[int, Shot], within: int, judge: Judge) -> dict[str, object]:
    """Return the figures of one video."""
    switches = switch_response(video, timeline, within=within, judge=judge)
    delays = [row["delay"] for row in switches]
    seen = [delay for delay in delays if delay is not None]
    return {
        "delays": delays,
        "mean_delay": float(np.mean(seen)) if seen else None,
        "never_seen": len(delays) - len(seen),
        "settled": float(np.mean([row["new"] or 0.0 for row in switches])),
        "around_switch": around_switches(video, timeline, within, judge),
        "step_at_switch_over_elsewhere": consistency([video], seams=sorted(timeline)[1:]).seam_ratio,
        "prompt_accuracy": prompt_accuracy(video, timeline, judge=judge),
    }


def row(model: VideoModel, name: str, sampler: Sampler, chosen: Settings) -> dict[str, object]:
    """Make one video per seed and return their figures."""
    timeline = scene_timeline(chosen.changes, chosen.span)
    frames, judge = (chosen.changes + 1) * chosen.span, Judge.load()
    steps = None if isinstance(sampler, Fifo) else chosen.steps
    found = []
    for seed in range(chosen.seeds):
        request = Request(prompts=prompts_of(timeline), frames=frames, seed=seed, steps=steps)
        video = made_video(model, request, sampler, chosen.folder / f"{slug(name)}-{seed}.mkv")
        found.append(figures(video, timeline, chosen.within, judge))
    print(f"{name}: mean delays {[one['mean_delay'] for one in found]}", file=sys.stderr)
    return {"sampler": name, "seeds": found}


def score(chosen: Settings) -> dict[str, object]:
    """Return the table."""
    model, report = measured_model(chosen.model, PerFrameNoise)
    samplers: dict[str, Sampler] = {"hard switch": VideoInfinity()}
    samplers |= {f"blend over {blend}": VideoInfinity(blend=blend) for blend in chosen.blend}
    samplers |= {"fifo": Fifo(), "chunked": Chunked()}
    timeline = {start: shot.scene for start, shot in scene_timeline(chosen.changes, chosen.span).items()}
    report |= {"steps": chosen.steps, "timeline": timeline, "within": chosen.within}
    return {**report, "rows": [row(model, name, sampler, chosen) for name, sampler in samplers.items()]}
