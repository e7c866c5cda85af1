"""Changes of scene, which its authors call a weakness: python -m lab.score.video_infinity_scenes [--blend 16].

One object goes through thirteen scenes by a timeline of prompts. For a hard switch and for prompts that turn into each
other: frames until the judge sees the new scene, the shares of the frames around a switch that show the old scene, the
new one, both, or neither, and the change at the switch over the change elsewhere. FIFO-Diffusion and plain clips in a
row, which switch hard, stand beside them.
"""

import argparse
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab.measuring import measured_model, publish
from longtake._generate import Output, generate
from longtake.data.sprites import SCENES, Shot, caption, is_held_out
from longtake.metrics.consistency import consistency
from longtake.metrics.judge import CLIP_FRAMES, Judge
from longtake.metrics.prompt_accuracy import prompt_accuracy, switch_response
from longtake.model import PerFrameNoise, VideoModel
from longtake.request import PromptTimeline, Request
from longtake.sampler import Sampler
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.fifo.plan import Fifo
from longtake.samplers.video_infinity.plan import VideoInfinity
from longtake.video.read import read_frames

Frames = NDArray[np.uint8]
Probabilities = NDArray[np.float32]

OBJECT, MOTION = "robot", "bounces"
# A scene shows where the judge gives it this much.
SEEN = 0.2


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
    return {name: float(np.mean([row[name] for row in found])) for name in found[0]}


def figures(path: Path, timeline: Mapping[int, Shot], within: int, judge: Judge) -> dict[str, object]:
    """Return the figures of one video."""
    video = np.concatenate(list(read_frames(path)))
    switches = switch_response(path, timeline, within=within, judge=judge)
    delays = [row["delay"] for row in switches]
    seen = [delay for delay in delays if delay is not None]
    return {
        "delays": delays,
        "mean_delay": float(np.mean(seen)) if seen else None,
        "never_seen": len(delays) - len(seen),
        "settled": float(np.mean([row["new"] or 0.0 for row in switches])),
        "around_switch": around_switches(video, timeline, within, judge),
        "step_at_switch_over_elsewhere": consistency([video], seams=sorted(timeline)[1:]).seam_ratio,
        "prompt_accuracy": prompt_accuracy(path, timeline, judge=judge),
    }


def row(model: VideoModel, name: str, sampler: Sampler, chosen: argparse.Namespace) -> dict[str, object]:
    """Make one video per seed and return their figures."""
    timeline = scene_timeline(chosen.changes, chosen.span)
    prompts = PromptTimeline(tuple(timeline), tuple(caption(shot) for shot in timeline.values()))
    frames, judge = (chosen.changes + 1) * chosen.span, Judge.load()
    steps = None if isinstance(sampler, Fifo) else chosen.steps
    found = []
    for seed in range(chosen.seeds):
        path = chosen.folder / f"{name.replace(' ', '-')}-{seed}.mkv"
        request = Request(prompts=prompts, frames=frames, seed=seed, steps=steps)
        generate(model, request, sampler, Output(path=path))
        found.append(figures(path, timeline, chosen.within, judge))
    print(f"{name}: mean delays {[one['mean_delay'] for one in found]}", file=sys.stderr)
    return {"sampler": name, "seeds": found}


def main(arguments: list[str]) -> None:
    """Print the table as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="sprites")
    parser.add_argument("--changes", type=int, default=12)
    parser.add_argument("--span", type=int, default=64, help="frames from one change to the next")
    parser.add_argument("--within", type=int, default=16, help="frames to each side of a switch that are looked at")
    parser.add_argument("--blend", nargs="+", type=int, default=[8, 16, 32], help="frames over which prompts mix")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, help="denoising steps, where the sampler leaves a choice")
    parser.add_argument("--folder", type=Path, default=Path("runs/video-infinity-scenes"), help="where the videos go")
    parser.add_argument("--report", type=Path, help="write the table here, too")
    chosen = parser.parse_args(arguments)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    model, dtype, _ = measured_model(chosen.model, PerFrameNoise)
    samplers: dict[str, Sampler] = {"hard switch": VideoInfinity()}
    samplers |= {f"blend over {blend}": VideoInfinity(blend=blend) for blend in chosen.blend}
    samplers |= {"fifo": Fifo(), "chunked": Chunked()}
    report = {"model": chosen.model, "digest": model.digest, "dtype": dtype, "steps": chosen.steps}
    timeline = {start: shot.scene for start, shot in scene_timeline(chosen.changes, chosen.span).items()}
    rows = [row(model, name, sampler, chosen) for name, sampler in samplers.items()]
    publish({**report, "timeline": timeline, "within": chosen.within, "rows": rows}, chosen.report)


if __name__ == "__main__":
    main(sys.argv[1:])
