"""The ablation of Video-Infinity in miniature: python -m lab.ablation.video_infinity [--seeds 3].

Clips that know nothing of each other, local context alone, global context alone, and both (dual scope), with and
without the phases that favour one of them by noise level. For each: the change across clip borders over that inside
clips, the distance of what no caption says (mean colour and horizon of the background) between the first clip and those
of the second half, over the distance between clips of different seeds, the motion, and what the judge sees. Real worlds
stand beside them: their state drifts slowly, too.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab.measuring import measured_model, publish
from longtake._generate import Output, generate
from longtake.data.sprites import Shot, SpriteWorld, caption
from longtake.metrics.consistency import consistency, real_step
from longtake.metrics.judge import Judge
from longtake.metrics.prompt_accuracy import prompt_accuracy
from longtake.model import PerFrameNoise, VideoModel
from longtake.request import PromptTimeline, Request
from longtake.sampler import Sampler
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.video_infinity.plan import VideoInfinity
from longtake.video.read import read_frames

Frames = NDArray[np.uint8]
Floats = NDArray[np.float64]

# Scenes whose horizon `horizon_row` finds: it follows that of real worlds with a correlation above 0.95.
SHOTS = (
    Shot(object="sailboat", scene="sea", motion="bounces"),
    Shot(object="cat", scene="forest", motion="swings"),
    Shot(object="octopus", scene="underwater", motion="spins"),
)
_EDGE = 6
_REACH = 4


def variants(clips: int, padding: int, top_k: int) -> dict[str, Sampler]:
    """Return what is compared; all denoise the same number of frames at once or in clips of the model's length."""
    local = VideoInfinity(clips=clips, padding=padding, top_k=0, local_phase=None, global_phase=None)
    distant = VideoInfinity(clips=clips, padding=0, top_k=top_k, local_phase=None, global_phase=None)
    both = VideoInfinity(clips=clips, padding=padding, top_k=top_k, local_phase=None, global_phase=None)
    return {
        "independent": Chunked(),
        "local": local,
        "global": distant,
        "dual scope, no phases": both,
        "dual scope": VideoInfinity(clips=clips, padding=padding, top_k=top_k),
    }


def background(clip: Frames) -> Floats:
    """Return the mean colour of every row of a clip's margins, where the object rarely is, (height, 3)."""
    margins = np.concatenate([clip[:, :, :_EDGE], clip[:, :, -_EDGE:]], axis=2)
    return margins.mean(axis=(0, 2), dtype=np.float64)


def tint(clip: Frames) -> Floats:
    """Return the mean background colour of a clip, in grey levels."""
    return background(clip).mean(axis=0)


def horizon_row(clip: Frames) -> Floats:
    """Return the row, alone in an array, at which the background's colour changes most."""
    rows = background(clip)
    above = np.stack([rows[y - _REACH : y].mean(axis=0) for y in range(_REACH, len(rows) - _REACH + 1)])
    below = np.stack([rows[y : y + _REACH].mean(axis=0) for y in range(_REACH, len(rows) - _REACH + 1)])
    return np.array([_REACH + float(np.abs(above - below).sum(axis=1).argmax())])


STATES = {"tint": tint, "horizon": horizon_row}


def distances(videos: Sequence[Sequence[Floats]]) -> tuple[float, float]:
    """Return two mean distances of states, `videos[seed][clip]`: first clip to far ones, and across seeds."""
    far = [np.linalg.norm(clip - video[0]) for video in videos for clip in video[len(video) // 2 :]]
    across = [np.linalg.norm(a - b) for one, other in combinations(videos, 2) for a in one for b in other]
    return float(np.mean(far)), float(np.mean(across))


def clips_of(video: Frames, length: int) -> list[Frames]:
    """Cut a video into clips."""
    return [video[start : start + length] for start in range(0, len(video), length)]


def figures(videos: Sequence[Frames], shot: Shot, length: int, judge: Judge) -> dict[str, float]:
    """Return the figures of one variant over its seeds; distances are in grey levels and rows."""
    frames = len(videos[0])
    read = [consistency([video], seams=range(length, frames, length)) for video in videos]
    seams = [reading.seam_ratio for reading in read if reading.seam_ratio is not None]
    accuracy = [prompt_accuracy(video, {0: shot}, judge=judge)["all"] for video in videos]
    return {
        "seam_over_interior": float(np.mean(seams)),
        "seam_standard_deviation": float(np.std(seams)),
        **{f"far_{name}": distances(states(videos, name, length))[0] for name in STATES},
        "step_over_real": float(np.mean([reading.mean_step for reading in read])) / real_step({0: shot}, frames),
        "prompt_accuracy": float(np.mean(accuracy)),
    }


def states(videos: Sequence[Frames], name: str, length: int) -> list[list[Floats]]:
    """Return a state of every clip of every video."""
    return [[STATES[name](clip) for clip in clips_of(video, length)] for video in videos]


def video(model: VideoModel, name: str, sampler: Sampler, shot: Shot, seed: int, chosen: argparse.Namespace) -> Frames:
    """Make a video of a variant, or read it where it is finished already."""
    prompts = PromptTimeline.constant(caption(shot))
    request = Request(prompts=prompts, frames=chosen.frames, seed=seed, steps=chosen.steps)
    path = chosen.folder / f"{name.replace(', ', '-').replace(' ', '-')}-{shot.scene}-{seed}.mkv"
    generate(model, request, sampler, Output(path=path))
    return np.concatenate(list(read_frames(path)))


def shot_rows(model: VideoModel, shot: Shot, chosen: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return the figures of every variant for one caption."""
    length, judge = model.spec.num_frames, Judge.load()
    samplers = variants(chosen.frames // length, chosen.padding, chosen.top_k)
    seeds = range(chosen.seeds)
    videos = {
        name: [video(model, name, sampler, shot, seed, chosen) for seed in seeds] for name, sampler in samplers.items()
    }
    videos["real worlds"] = [SpriteWorld(seed, {0: shot}).frames(100, 100 + chosen.frames) for seed in seeds]
    rows = {name: figures(made, shot, length, judge) for name, made in videos.items()}
    rows["unrelated clips"] = {
        f"far_{name}": distances(states(videos["independent"], name, length))[1] for name in STATES
    }
    return rows


def mean_rows(tables: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the mean of tables of the same form, with far distances over those of unrelated clips."""
    rows = {
        name: {key: float(np.mean([table[name][key] for table in tables])) for key in columns}
        for name, columns in tables[0].items()
    }
    unrelated = dict(rows["unrelated clips"])
    for row in rows.values():
        row |= {f"{key}_over_unrelated": row[key] / unrelated[key] for key in unrelated if unrelated[key]}
    return rows


def main(arguments: list[str]) -> None:
    """Print the table as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="sprites")
    parser.add_argument("--frames", type=int, default=128, help="per video; a multiple of the model's window")
    parser.add_argument("--seeds", type=int, default=3, help="2 or more: seeds are what clips are compared across")
    parser.add_argument("--shots", type=int, default=len(SHOTS), help=f"captions, 1 to {len(SHOTS)}")
    parser.add_argument("--steps", type=int, help="denoising steps; the samplers' own if not given")
    parser.add_argument("--padding", type=int, default=VideoInfinity.padding)
    parser.add_argument("--top-k", type=int, default=VideoInfinity.top_k)
    parser.add_argument("--folder", type=Path, default=Path("runs/video-infinity-ablation"), help="where videos go")
    parser.add_argument("--report", type=Path, help="write the table here, too")
    chosen = parser.parse_args(arguments)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    model, dtype, _ = measured_model(chosen.model, PerFrameNoise)
    if chosen.frames % model.spec.num_frames or chosen.seeds < 2:
        parser.error(f"--frames must be a multiple of {model.spec.num_frames}, and --seeds 2 or more")
    by_shot = {caption(shot): shot_rows(model, shot, chosen) for shot in SHOTS[: chosen.shots]}
    shared = ("frames", "seeds", "steps", "padding", "top_k")
    report = {"model": chosen.model, "digest": model.digest, "dtype": dtype}
    report |= {name: getattr(chosen, name) for name in shared}
    publish({**report, "mean": mean_rows(list(by_shot.values())), "by_caption": by_shot}, chosen.report)


if __name__ == "__main__":
    main(sys.argv[1:])
