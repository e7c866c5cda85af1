"""The score of an embedded model: python -m lab score sprites [--parts clips videos stories].

A judge that was trained on real worlds alone reads what the model makes. Clips: 16 frames by ordinary sampling, half of
the captions about (object, scene, motion) triples that were never trained on. Videos: delivered by `generate` with
FIFO-Diffusion, first and last 64 frames; sheet.png beside them shows the first ten as they come, each with a real world
of its shot. Also how much of the queue's lag a change of prompts shows, and the mean change from frame to frame over
that of real worlds.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from lab.checks import fifo_preset
from lab.common import HEADS, chosen_shots, mean_of, measured_model, prompts_of, real_step, share_right
from longtake._generate import Output, generate
from longtake.data.sprites import Shot, SpriteWorld, caption
from longtake.decoding import decode_clip
from longtake.metrics.consistency import consistency
from longtake.metrics.judge import Judge
from longtake.metrics.prompt_accuracy import prompt_accuracy, switch_response
from longtake.model import PerFrameNoise
from longtake.noise import seeded_noise
from longtake.request import PromptTimeline, Request
from longtake.samplers.fifo.loop import base_clip, prepare
from longtake.samplers.fifo.plan import Fifo
from longtake.video.read import read_frames


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is scored."""

    model: str = "sprites"
    parts: tuple[Literal["clips", "videos", "stories"], ...] = ("clips", "videos", "stories")
    preset: str | None = None  # settings of FIFO-Diffusion; its defaults if not given
    clips: int = 200
    videos: int = 20
    frames: int = 1024
    folder: Path = Path("runs/score")  # where the videos go


@torch.inference_mode()
def clip_accuracy(model: PerFrameNoise, shots: list[Shot], judge: Judge, seed: int) -> dict[str, float]:
    """Return the share of 16-frame clips in which the judge sees what their caption asks for, per head."""
    read = []
    for index, shot in enumerate(shots):
        request = Request(prompts=PromptTimeline.constant(caption(shot, index)), frames=None, seed=seed + index)
        plan = Fifo().plan(request, model.spec)
        latents = base_clip(prepare(model, plan, seeded_noise(request.seed)))
        read.append((judge.read(decode_clip(model, latents)), shot))
    return share_right(read)


def video_figures(model: PerFrameNoise, fifo: Fifo, shot: Shot, frames: int, path: Path, seed: int) -> dict[str, float]:
    """Return accuracy of the first and last 64 frames, and the mean step over the real one, of one long video."""
    request = Request(prompts=PromptTimeline.constant(caption(shot, seed)), frames=frames, seed=seed)
    generate(model, request, fifo, Output(path=path, scale=4))
    judge, timeline = Judge.load(), {0: shot}
    first = prompt_accuracy(path, timeline, stop=64, scale=4, judge=judge)
    last = prompt_accuracy(path, timeline, start=frames - 64, scale=4, judge=judge)
    step = (consistency(read_frames(path, scale=4)).mean_step or 0) / real_step(timeline, frames)
    return {
        **{f"first_{head}": first[head] for head in HEADS},
        **{f"last_{head}": last[head] for head in HEADS},
        "step_over_real": step,
    }


def sheet(made: list[tuple[Path, Shot]], at: list[int]) -> Image.Image:
    """Return these frames of each video, a row each, and to the right the same of a real world of its shot."""
    rows = []
    for path, shot in made:
        world = SpriteWorld(9_000_000, {0: shot})
        real = [world.frames(frame, frame + 1)[0] for frame in at]
        mine = [next(read_frames(path, frame, frame + 1, scale=4))[0] for frame in at]
        rows.append(np.concatenate([np.pad(each, ((1, 1), (1, 1), (0, 0))) for each in (*mine, *real)], axis=1))
    return Image.fromarray(np.concatenate(rows))


def story_figures(model: PerFrameNoise, fifo: Fifo, path: Path, seed: int, span: int = 64) -> list[dict]:
    """Return how a four-prompt story is followed, switch by switch."""
    shots, _ = chosen_shots(8, seed)
    timeline = {index * span: shot for index, shot in enumerate(shots[:4])}
    request = Request(prompts=prompts_of(timeline), frames=4 * span, seed=seed)
    generate(model, request, fifo, Output(path=path, scale=4))
    return switch_response(path, timeline, scale=4)


def real_accuracy(judge: Judge, count: int, seed: int) -> dict[str, float]:
    """Return what the judge makes of real clips: the ceiling."""
    shots = enumerate(chosen_shots(count, seed)[0])
    return share_right((judge.read(SpriteWorld(9_000_000 + n, {0: shot}).frames(40, 56)), shot) for n, shot in shots)


def clips_part(model: PerFrameNoise, chosen: Settings) -> dict[str, object]:
    """Score 16-frame clips, trained and unseen triples apart, and real clips as the ceiling."""
    judge = Judge.load()
    trained, unseen = chosen_shots(chosen.clips, seed=11)
    return {
        "count": chosen.clips,
        "real": real_accuracy(judge, 100, 12),
        "trained": clip_accuracy(model, trained, judge, 1000),
        "unseen": clip_accuracy(model, unseen, judge, 2000),
    }


def videos_part(model: PerFrameNoise, chosen: Settings) -> dict[str, object]:
    """Score long videos: means over them, and every one."""
    shots = chosen_shots(2 * chosen.videos, seed=13)[0]
    fifo = chosen_fifo(chosen.preset)
    made = [(chosen.folder / f"long-{index:02d}.mp4", shot) for index, shot in enumerate(shots)]
    rows = [
        video_figures(model, fifo, shot, chosen.frames, path, 3000 + index) for index, (path, shot) in enumerate(made)
    ]
    moments = [chosen.frames * quarter // 4 for quarter in range(4)] + [chosen.frames - 1]
    sheet(made[:10], moments).save(chosen.folder / "sheet.png", optimize=True)
    return {"count": len(rows), "frames": chosen.frames, **mean_of(rows), "each": rows}


def stories_part(model: PerFrameNoise, chosen: Settings) -> dict[str, object]:
    """Show how fast a change of prompt is followed, beside the authors' switch of the whole queue."""
    fifo = chosen_fifo(chosen.preset)
    return {
        label: story_figures(model, sampler, chosen.folder / f"story-{sampler.compat}.mp4", seed=21)
        for label, sampler in (
            ("a prompt per frame", fifo),
            ("all at once, as in the released code", replace(fifo, compat="videocrafter2")),
        )
    }


PARTS = {"clips": clips_part, "videos": videos_part, "stories": stories_part}


def chosen_fifo(preset: str | None) -> Fifo:
    """Return the sampler of a preset, or with its defaults."""
    return fifo_preset(preset) if preset else Fifo()


def score(chosen: Settings) -> dict[str, object]:
    """Return the score."""
    model, head = measured_model(chosen.model, PerFrameNoise)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    return head | {"preset": chosen.preset} | {part: PARTS[part](model, chosen) for part in chosen.parts}
