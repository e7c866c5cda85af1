"""Frames of worlds, and what a denoiser makes of them from partly noised latents: pairs that a decoder learns from.

What a denoiser makes is not what the encoder says: what turns has lost its face, an outline frays. Begun at the noised
latents of a real clip, it keeps where everything is, so that the real frame is what should be seen there.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor

from longtake.data.sprites import SpriteWorld, drawn, random_world, training_shots
from longtake.models.schedules import discrete_schedule
from longtake.schedule import Level, Prediction, step, to_x0
from longtake.train.fit.latents import Stop, in_files, never, write_latents
from longtake.train.sprites.build import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
from longtake.train.sprites.cache import WorldFiles, encode_pictures
from longtake.train.sprites.unet import predicted


@dataclass(frozen=True, kw_only=True)
class RedrawSettings(WorldFiles):
    """How many clips are made anew, and from how much noise."""

    num_worlds: int = 1_000
    """Worlds of one shot, a clip of each."""
    num_frames: int = 16
    """Frames of a clip."""
    num_steps: int = 16
    """Levels of sampling from noise alone."""
    even: tuple[int, int] = (3, 12)
    """The level of all frames of a half of the clips: at random from the first to the last of these."""
    rising: tuple[int, int] = (6, 16)
    """The level of the last frame of the other half, in which levels rise from 1 as in the queue of FIFO-Diffusion."""


class Redraw:
    """A denoiser in one branch, and what it reads."""

    def __init__(
        self, unet: UNet3DConditionModel, scheduler: DDIMScheduler, captions: Path, settings: RedrawSettings
    ) -> None:
        """`captions` are the states of all captions."""
        config: Any = scheduler.config
        self.unet, self.settings = unet.eval(), settings
        self.prediction: Prediction = config.prediction_type
        self.schedule = discrete_schedule(scheduler.alphas_cumprod, settings.num_steps, "trailing", self.prediction)
        self.table = load_file(captions)["table"]
        self.numbers = {shot: number for number, shot in enumerate(training_shots())}

    @torch.no_grad()
    def clip(
        self, latents: Float[Tensor, "channels frames height width"], seed: int, world: SpriteWorld
    ) -> Float[Tensor, "channels frames height width"]:
        """Return the clip that sampling makes of these latents, noised to levels drawn by `seed`."""
        generator = np.random.default_rng([seed, 3])
        level, schedule = self.levels(generator), self.schedule
        noise = torch.from_numpy(generator.standard_normal(latents.shape, dtype=np.float32)).to(latents)
        x = _of_frames(schedule.now(level)).mix(latents, noise)
        variant = int(generator.integers(self.table.shape[1]))
        texts = self.table[self.numbers[world.shot(0)], variant].float().to(latents.device)
        texts = texts.expand(1, len(level), *texts.shape)
        while bool(level.any()):
            told = schedule.timestep[level].to(latents.device)[None]
            with torch.autocast(latents.device.type, torch.bfloat16):
                said = predicted(self.unet, x[None], told, texts)[0]
            now, below = _of_frames(schedule.now(level)), _of_frames(schedule.next(level))
            moved = step(x, to_x0(said, x, now, self.prediction), now, below)
            x = torch.where((level > 0)[:, None, None].to(x.device), moved, x)
            level = (level - 1).clamp(min=0)
        return x

    def levels(self, generator: np.random.Generator) -> Int[Tensor, "frames"]:
        """Return the levels of a clip's frames."""
        count = self.settings.num_frames
        if generator.random() < 0.5:
            return torch.full((count,), int(generator.integers(*self.settings.even, endpoint=True)))
        last = int(generator.integers(*self.settings.rising, endpoint=True))
        return torch.linspace(1, last, count).round().long()


def _of_frames(level: Level) -> Level:
    """Return coefficients of frames so that they multiply (channels, frames, height, width)."""
    return Level(alpha=level.alpha[:, None, None], sigma=level.sigma[:, None, None])


def redraw_worlds(redraw: Redraw, vae: AutoencoderKL, folder: Path, stop: Stop = never) -> bool:
    """Write clips of worlds into `folder`, those that exist are kept; return whether all are there.

    Every file holds `latents` (clips, frames, channels, height, width), unit variance, float16, as the denoiser has
    made them anew, and `pixels` (clips, frames, 3, 64, 64), bytes, of the real frames. `stop(number)` is asked before
    every file.
    """
    settings = redraw.settings

    def encode(places: range) -> dict[str, Tensor]:
        seeds = [settings.first_seed + number for number in places]
        firsts = [int(np.random.default_rng([seed, 2]).integers(0, 2000)) for seed in seeds]
        worlds = [random_world(seed) for seed in seeds]
        clips = [(world, range(at, at + settings.num_frames)) for world, at in zip(worlds, firsts, strict=True)]
        frames = torch.from_numpy(np.stack(drawn(clips, torch.get_num_threads()))).permute(0, 1, 4, 2, 3)
        latents = encode_pictures(vae, frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).transpose(1, 2).float()
        made = [
            redraw.clip(latents[number].to(redraw.unet.device), seed, world).transpose(0, 1).half().cpu()
            for number, (seed, world) in enumerate(zip(seeds, worlds, strict=True))
        ]
        return {"latents": torch.stack(made), "pixels": frames}

    return write_latents(folder, in_files("worlds", settings.num_worlds, settings.worlds_per_file, encode), stop)
