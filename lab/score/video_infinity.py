"""Three ways to a long video, side by side: python -m lab score video-infinity [--frames 128 512 1024].

Video-Infinity, FIFO-Diffusion and plain clips in a row, each with its defaults, on the same captions, seeds and
processes (also under torchrun): time, frames a second and core, peak memory of every process, and the share of clips in
which the judge sees what was asked for, by blocks of 64 frames. Videos go to --folder; scripts/contact_sheet.py lays
them out as pictures.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from lab.common import HEADS, chosen_shots, mean_of, measured_model
from longtake._generate import Output, generate
from longtake.data.sprites import Shot, caption
from longtake.machine import peak_memory
from longtake.metrics.judge import CLIP_FRAMES, Judge
from longtake.metrics.prompt_accuracy import prompt_accuracy
from longtake.model import PerFrameNoise, VideoModel
from longtake.ranks.rendezvous import joined_world
from longtake.ranks.world import World
from longtake.request import PromptTimeline, Request
from longtake.sampler import Sampler
from longtake.samplers import sampler_class

BLOCK = 64


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is compared."""

    model: str = "sprites"
    samplers: tuple[Literal["video-infinity", "fifo", "chunked"], ...] = ("video-infinity", "fifo", "chunked")
    frames: tuple[int, ...] = (128, 512, 1024)
    videos: int = 2  # captions, one video each
    steps: int | None = None  # denoising steps, where the sampler leaves a choice
    folder: Path = Path("runs/video-infinity")  # where the videos go


def accuracy_by_block(path: Path, shot: Shot, frames: int, judge: Judge) -> list[dict[str, float]]:
    """Return the judge's shares for every 64 frames of a video; a last block shorter than a clip is left out."""
    starts = [start for start in range(0, frames, BLOCK) if frames - start >= CLIP_FRAMES]
    read = [prompt_accuracy(path, {0: shot}, start=start, stop=start + BLOCK, judge=judge) for start in starts]
    return [{head: row[head] for head in (*HEADS, "all")} for row in read]


def made(model: VideoModel, request: Request, sampler: Sampler, path: Path, world: World) -> dict[str, object]:
    """Make a video anew; return what it took, the same on every process."""
    _forget_peak()
    world.all.say("")
    start = time.perf_counter()
    result = generate(model, request, sampler, Output(path=path, overwrite=True), world)
    peaks = [int(text) for text in world.all.say(str(peak_memory()))]
    seconds = time.perf_counter() - start
    cores = world.size * torch.get_num_threads()
    assert request.frames
    return {
        "seconds": seconds,
        "frames_per_second": request.frames / seconds,
        "frames_per_second_and_core": request.frames / seconds / cores,
        "peak_bytes": peaks,
        "forwards": result.plan.forwards,
        "window_frames": result.plan.window_frames,
    }


def _forget_peak() -> None:
    """Let `peak_memory` begin anew (Linux: the kernel's own switch)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def row(
    model: VideoModel, name: str, frames: int, shots: Sequence[Shot], chosen: Settings, world: World
) -> dict[str, object]:
    """Return the figures of one sampler at one length: every video's, and the accuracy averaged over the videos."""
    judge, each, blocks = Judge.load(), [], []
    steps = None if name == "fifo" else chosen.steps
    for index, shot in enumerate(shots):
        path = chosen.folder / f"{name}-{frames}-{index}.mkv"
        prompts = PromptTimeline.constant(caption(shot))
        request = Request(prompts=prompts, frames=frames, seed=4000 + index, steps=steps)
        each.append(made(model, request, sampler_class(name)(), path, world))
        if world.rank == 0:
            blocks.append(accuracy_by_block(path, shot, frames, judge))
    means = [mean_of(same) for same in zip(*blocks, strict=True)]
    print(f"{name} {frames}: {[round(video['frames_per_second'], 2) for video in each]}", file=sys.stderr)
    return {"sampler": name, "frames": frames, "videos": each, "accuracy_by_block": means}


def score(chosen: Settings) -> dict[str, object] | None:
    """Return the report, in the first process of a job."""
    chosen.folder.mkdir(parents=True, exist_ok=True)
    model, head = measured_model(chosen.model, PerFrameNoise)
    shots = chosen_shots(chosen.videos, seed=31)[0]
    with joined_world("cpu") as world:
        rows = [row(model, name, n, shots, chosen, world) for n in chosen.frames for name in chosen.samplers]
        head |= {"processes": world.size, "threads_each": torch.get_num_threads()}
        return None if world.rank else {**head, "shots": [caption(shot) for shot in shots], "rows": rows}
