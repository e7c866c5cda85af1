"""The ablation of FIFO-Diffusion in miniature: python -m lab ablate fifo [--model sprites-uniform] [--clips 6].

The paper's argument for partitions and lookahead: a network trained with one level per clip predicts noise worse when
the levels in a window differ; more partitions bring them closer together, lookahead lets a frame see cleaner ones.
Measured on real clips of the sprite worlds, whose noise is known: the squared error of the prediction at every level of
the queue, over the error of the same network at the same level in a uniform window, averaged over the levels. 1 is as
good as the network was trained to be.
"""

import sys
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lab.common import measured_model, pixels
from longtake.data.sprites import random_world
from longtake.model import Condition, PerFrameNoise
from longtake.noise import Noise, seeded_noise
from longtake.request import PromptTimeline, Request
from longtake.samplers.fifo.plan import Fifo, FifoPlan
from longtake.schedule import Schedule

HELD_OUT = 5_000_000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured."""

    model: str = "sprites-uniform"
    clips: int = 6  # real clips per seed
    seeds: int = 3


def real_clips(model: PerFrameNoise, count: int, seed: int) -> tuple[Tensor, list[str]]:
    """Return latents (clips, channels, frames, height, width) and captions of clips of worlds that no training has
    seen."""
    clips, captions = [], []
    for index in range(count):
        world = random_world(HELD_OUT + 1000 * seed + index)
        clips.append(model.encode_frames(pixels(world.frames(100, 100 + model.spec.num_frames))))
        captions.append(world.caption(100))
    return torch.stack(clips), captions


def squared_error(
    model: PerFrameNoise,
    clips: Tensor,
    levels: list[int],
    labels: list[int],
    schedule: Schedule,
    condition: Condition,
    noise: Noise,
) -> Tensor:
    """Return the squared error of x0 per frame, averaged over clips; epsilon's is the same times (alpha / sigma)^2."""
    level = torch.tensor(levels)
    z = torch.stack([noise(tuple(clips.shape[1:]), "ablation", index) for index in range(len(clips))])
    now = schedule.now(level[None, None, :, None, None])
    prompt = torch.arange(1, len(clips) + 1)[:, None].expand(-1, len(levels))
    label = torch.tensor(labels).expand(len(clips), -1)
    x0 = model.denoise(now.mix(clips, z), label, schedule, condition, prompt)
    return (x0 - clips).square().mean(dim=(0, 1, 3, 4))


def queue_over_uniform(model: PerFrameNoise, plan: FifoPlan, clips: Tensor, captions: list[str], seed: int) -> float:
    """Return the error in the queue's windows over that in uniform windows, averaged over the levels of the queue."""
    schedule, condition = model.schedule(plan.num_levels), model.encode(["", *captions])
    noise = seeded_noise(seed)
    clean = 0 if plan.spec.clean_frames else 1
    ratios = []
    for window in plan.windows:
        levels = [plan.level(slot) for slot in range(window.start, window.stop)]
        labels = [max(level, clean) for level in levels]
        mixed = squared_error(model, clips, levels, labels, schedule, condition, noise)
        for slot in range(window.keep_start, window.keep_stop):
            level = [plan.level(slot)] * plan.spec.num_frames
            uniform = squared_error(model, clips, level, level, schedule, condition, noise)
            ratios.append(float(mixed[slot - window.start] / uniform[slot - window.start]))
    return float(np.mean(ratios))


@torch.inference_mode()
def ablation(chosen: Settings) -> dict[str, object]:
    """Return mean and standard deviation over seeds for n = 1, 2, 4, 8 with lookahead off and on."""
    model, head = measured_model(chosen.model, PerFrameNoise)
    rows, seeds = {}, range(chosen.seeds)
    for n in (1, 2, 4, 8):
        for lookahead in (False, True):
            fifo = Fifo(partitions=n, lookahead=lookahead)
            plan = fifo.plan(Request(prompts=PromptTimeline.constant("any"), frames=None), model.spec)
            found = [queue_over_uniform(model, plan, *real_clips(model, chosen.clips, s), s) for s in seeds]
            rows[f"n={n} lookahead={'on' if lookahead else 'off'}"] = {
                "error_over_uniform": float(np.mean(found)),
                "standard_deviation": float(np.std(found)),
            }
            print(f"n={n} lookahead={lookahead}: {np.mean(found):.3f} +- {np.std(found):.3f}", file=sys.stderr)
    return {**head, "clips": chosen.clips, "seeds": chosen.seeds, "rows": rows}
