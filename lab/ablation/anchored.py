"""Keyframes as a global anchor, an experiment: python -m lab ablate anchored [--keyframe-model sprites].

Stories of four prompts, and videos of one: the first call of NUWA-XL lays keyframes over the whole length, then
FIFO-Diffusion goes from left to right, alone and through every keyframe or every fifth. NUWA-XL's own filling of the
gaps stands beside them. Shown are what the judge reads in the last 16 frames, in the last 48 and in all, in clips of
16; how far the looks of the last block are from those of the first, beside real worlds; the change at keyframes over
that elsewhere; and network evaluations, those for the keyframes counted. scripts/contact_sheet.py lays videos out.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from lab.common import HEADS, Frames, chosen_shots, made_video, measured_model, prompts_of, real_step, slug
from longtake.data.sprites import Shot, SpriteWorld
from longtake.decoding import decode_clip
from longtake.errors import InputError
from longtake.guidance import num_branches
from longtake.metrics.consistency import consistency
from longtake.metrics.judge import CLIP_FRAMES, Judge
from longtake.metrics.prompt_accuracy import prompt_accuracy
from longtake.model import PerFrameNoise, VideoModel
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import Request
from longtake.sampler import Sampler
from longtake.samplers import plan_work
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.fifo.plan import Fifo
from longtake.samplers.nuwa_xl.ladder import Node
from longtake.samplers.nuwa_xl.loop import Tree
from longtake.samplers.nuwa_xl.plan import NuwaXl
from longtake.tasks.stores import MemoryStore

Figures = dict[str, float | None]

NUM_PROMPTS = {"story": 4, "one prompt": 1}
EVERY = (1, 5)
OVERLAP = 4
REAL_WORLD = 9_500_000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is compared."""

    model: str = "sprites"
    keyframe_model: str = "sprites"  # whose first call of NUWA-XL lays the keyframes
    kinds: tuple[Literal["story", "one prompt"], ...] = ("story", "one prompt")
    seeds: int = 3  # videos of each kind
    frames: int = 226
    chunked: bool = False  # windows in a row, too, alone and with every keyframe
    folder: Path = Path("runs/anchored")  # where the videos go


def timeline_of(kind: str, frames: int, seed: int) -> dict[int, Shot]:
    """Return the shots of a video, of trained triples, evenly spread."""
    shots, count = chosen_shots(2 * NUM_PROMPTS[kind], seed)[0], NUM_PROMPTS[kind]
    return {index * frames // count: shot for index, shot in enumerate(shots)}


def requested(timeline: Mapping[int, Shot], frames: int, seed: int) -> Request:
    """Return the request for these shots."""
    return Request(prompts=prompts_of(timeline), frames=frames, seed=seed)


@torch.inference_mode()
def global_frames(model: VideoModel, request: Request) -> tuple[Frames, int]:
    """Return what the first call of NUWA-XL makes of a request, and its network evaluations.

    Raises InputError where the last of these frames would not be the last one of the video.
    """
    sampler = NuwaXl(fit="stretch")
    plan = sampler.plan(request, model.spec)
    window = plan.ladder.window(Node(1, 0))
    if window[-1] + 1 != request.frames:
        raise InputError(f"{request.frames} frames do not end with a keyframe; ask for {window[-1] + 1}")
    first = Tree.of(model, plan).first(MemoryStore())
    latents = plan_work(model, plan, seeded_noise(request.seed), ALONE)([first], None)[0]
    forwards = plan.num_levels * num_branches(plan.call_guidance(1)) * len(plan.clips(Node(1, 0)))
    return decode_clip(model, latents.to(model.device)), forwards


def written(frames: Frames, folder: Path) -> str:
    """Write frames as a folder of images, in place of those that are there, and return its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number:03d}.png")
    return str(folder)


def keyframe_accuracy(keyframes: Frames, timeline: Mapping[int, Shot], frames: int, judge: Judge) -> float:
    """Return the share of keyframes, each read alone, whose object and scene are those asked for."""
    right = []
    for place, seen in zip(np.linspace(0, frames - 1, len(keyframes)), judge.read_stills(keyframes), strict=True):
        shot = timeline[max(start for start in timeline if start <= place)]
        right.append(seen == (shot.object, shot.scene))
    return float(np.mean(right))


def look_change(video: Frames, judge: Judge) -> float:
    """Return how far apart the judge finds the looks of the first and of the last 16 frames."""
    first, last = judge.features(np.stack([video[:CLIP_FRAMES], video[-CLIP_FRAMES:]]))[:, :128]
    return float(np.linalg.norm(first - last))


def figures(video: Frames, timeline: Mapping[int, Shot], anchored: Sequence[int], judge: Judge) -> Figures:
    """Return the figures of one video, of which the frames `anchored` are keyframes."""
    frames = len(video)
    starts = {"last_16": frames - CLIP_FRAMES, "last_48": frames - 3 * CLIP_FRAMES, "all_frames": 0}
    right = {name: prompt_accuracy(video, timeline, start=start, judge=judge) for name, start in starts.items()}
    # The step to a keyframe and the step from it; the first and the last keyframe have one of them.
    seams = [seam for frame in anchored for seam in (frame, frame + 1)]
    read = consistency([video], seams=seams, block=CLIP_FRAMES)
    real = SpriteWorld(REAL_WORLD, timeline).frames(0, frames)
    return {
        **{f"{name} {head}": shares[head] for name, shares in right.items() for head in (*HEADS, "all")},
        "look_change": look_change(video, judge),
        "real_look_change": look_change(real, judge),
        "colour_drift": read.colour_drift,
        "real_colour_drift": consistency([real], block=CLIP_FRAMES).colour_drift,
        "step_over_real": (read.mean_step or 0) / real_step(timeline, frames),
        "step_at_keyframes_over_elsewhere": read.seam_ratio,
    }


def compared(keyframes: Frames, folder: Path, chunked: bool) -> dict[str, Sampler]:
    """Return the samplers that stand side by side, and write the folders of keyframes that they need."""
    boards = {every: written(keyframes[::every], folder / f"every-{every}") for every in EVERY}
    rows: dict[str, Sampler] = {"fifo": Fifo()}
    rows |= {f"fifo, keyframes {len(keyframes[::every])}": Fifo(keyframes=board) for every, board in boards.items()}
    if chunked:
        rows["chunked"] = Chunked(overlap=OVERLAP)
        rows[f"chunked, keyframes {len(keyframes)}"] = Chunked(overlap=OVERLAP, keyframes=boards[1])
    return {**rows, f"nuwa-xl, keyframes {len(keyframes)}": NuwaXl(keyframes=boards[1])}


def video_rows(model: PerFrameNoise, author: VideoModel, kind: str, seed: int, chosen: Settings) -> dict[str, Figures]:
    """Return the figures of all samplers for one story; videos that are there already are read again."""
    timeline, judge = timeline_of(kind, chosen.frames, seed), Judge.load()
    request = requested(timeline, chosen.frames, seed)
    keyframes, forwards = global_frames(author, request)
    folder = chosen.folder / slug(kind) / str(seed)
    rows: dict[str, Figures] = {}
    for name, sampler in compared(keyframes, folder / author.spec.name, chosen.chunked).items():
        count = int(name.split()[-1]) if "keyframes" in name else 0
        path = (folder / author.spec.name if count else folder) / f"{slug(name)}.mkv"
        video, plan = made_video(model, request, sampler, path), sampler.plan(request, model.spec)
        anchored = [round(place) for place in np.linspace(0, chosen.frames - 1, count)]
        found = figures(video, timeline, anchored, judge)
        rows[name] = {"forwards": (plan.forwards or 0) + (forwards if count else 0), **found}
        print(kind, seed, name, rows[name], file=sys.stderr, flush=True)
    right = keyframe_accuracy(keyframes, timeline, chosen.frames, judge)
    return {**rows, "keyframes alone": {"forwards": forwards, "object_and_scene": right}}


def means(videos: Sequence[Mapping[str, Figures]]) -> dict[str, dict[str, float]]:
    """Return the means over videos of every figure of every sampler."""
    return {
        name: {
            key: float(np.mean([value for video in videos if (value := video[name][key]) is not None]))
            for key in row
            if row[key] is not None
        }
        for name, row in videos[0].items()
    }


def ablation(chosen: Settings) -> dict[str, object]:
    """Return the table."""
    model, report = measured_model(chosen.model, PerFrameNoise)
    author = model if chosen.keyframe_model == chosen.model else measured_model(chosen.keyframe_model, VideoModel)[0]
    report |= {"keyframe_model": chosen.keyframe_model, "keyframe_digest": author.digest, "frames": chosen.frames}
    for kind in chosen.kinds:
        videos = [video_rows(model, author, kind, seed, chosen) for seed in range(chosen.seeds)]
        report[kind] = {"videos": len(videos), "mean": means(videos), "each": videos}
    return report
