"""The ablation of Video-Infinity in miniature: python -m lab ablate video-infinity [--seeds 3].

Clips that know nothing of each other, local context alone, global context alone, and both (dual scope), with and
without the phases that favour one of them by noise level. For each: the change across clip borders over that inside
clips, the distance of what no caption says (mean colour and horizon of the background) between the first clip and those
of the second half, over the distance between clips of different seeds, the motion, and what the judge sees. Real worlds
stand beside them: their state drifts slowly, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab.common import Frames, made_video, mean_of, measured_model, real_step, slug
from longtake.data.sprites import Shot, SpriteWorld, caption
from longtake.errors import InputError
from longtake.metrics.consistency import consistency
from longtake.metrics.judge import Judge
from longtake.metrics.prompt_accuracy import prompt_accuracy
from longtake.model import PerFrameNoise, VideoModel
from longtake.request import PromptTimeline, Request
from longtake.sampler import Sampler
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.video_infinity.plan import VideoInfinity

Floats = NDArray[np.float64]

# Scenes whose horizon `horizon_row` finds: it follows that of real worlds with a correlation above 0.95.
SHOTS = (
    Shot(object="sailboat", scene="sea", motion="bounces"),
    Shot(object="cat", scene="forest", motion="swings"),
    Shot(object="octopus", scene="underwater", motion="spins"),
)
_EDGE = 6
_REACH = 4


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is compared."""

    model: str = "sprites"
    frames: int = 128  # per video; a multiple of the model's window
    seeds: int = 3  # 2 or more: seeds are what clips are compared across
    shots: int = len(SHOTS)  # captions
    steps: int | None = None  # denoising steps; the samplers' own if not given
    padding: int = VideoInfinity.padding
    top_k: int = VideoInfinity.top_k
    folder: Path = Path("runs/video-infinity-ablation")  # where videos go


def variants(clips: int, padding: int, top_k: int) -> dict[str, Sampler]:
    """Return what is compared; all denoise the same number of frames at once or in clips of the model's length."""
    both = VideoInfinity(clips=clips, padding=padding, top_k=top_k, local_phase=None, global_phase=None)
    return {
        "independent": Chunked(),
        "local": replace(both, top_k=0),
        "global": replace(both, padding=0),
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
        "step_over_real": float(np.mean([reading.mean_step or 0 for reading in read])) / real_step({0: shot}, frames),
        "prompt_accuracy": float(np.mean(accuracy)),
    }


def states(videos: Sequence[Frames], name: str, length: int) -> list[list[Floats]]:
    """Return a state of every clip of every video."""
    return [[STATES[name](clip) for clip in clips_of(video, length)] for video in videos]


def video(model: VideoModel, name: str, sampler: Sampler, shot: Shot, seed: int, chosen: Settings) -> Frames:
    """Make a video of a variant, or read it where it is finished already."""
    prompts = PromptTimeline.constant(caption(shot))
    request = Request(prompts=prompts, frames=chosen.frames, seed=seed, steps=chosen.steps)
    return made_video(model, request, sampler, chosen.folder / f"{slug(name)}-{shot.scene}-{seed}.mkv")


def shot_rows(model: VideoModel, shot: Shot, chosen: Settings) -> dict[str, dict[str, float]]:
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
    rows = {name: mean_of([table[name] for table in tables]) for name in tables[0]}
    unrelated = dict(rows["unrelated clips"])
    for row in rows.values():
        row |= {f"{key}_over_unrelated": row[key] / unrelated[key] for key in unrelated if unrelated[key]}
    return rows


def ablation(chosen: Settings) -> dict[str, object]:
    """Return the table. Raises InputError for lengths and seeds that cannot be compared."""
    model, report = measured_model(chosen.model, PerFrameNoise)
    if chosen.frames % model.spec.num_frames or chosen.seeds < 2:
        raise InputError(f"--frames must be a multiple of {model.spec.num_frames}, and --seeds 2 or more")
    by_shot = {caption(shot): shot_rows(model, shot, chosen) for shot in SHOTS[: chosen.shots]}
    report |= {name: getattr(chosen, name) for name in ("frames", "seeds", "steps", "padding", "top_k")}
    return {**report, "mean": mean_rows(list(by_shot.values())), "by_caption": by_shot}
