"""Both stages of PVDM's training, from recordings to a model folder (Yu et al., CVPR 2023, arXiv 2302.07685, sec. 3).

Each is called in all processes of a job; the first one writes and speaks.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from math import gcd
from pathlib import Path
from shutil import copytree
from typing import TypeVar

import numpy as np
import torch
from torch import Generator, Tensor

from longtake.data.footage import Footage, draw_windows
from longtake.errors import InputError
from longtake.models.hub.files import digest
from longtake.models.hub.load import filled
from longtake.models.pvdm.autoencoder import PvdmAutoencoder
from longtake.models.pvdm.config import AutoencoderConfig, Grid, UnetConfig
from longtake.models.pvdm.load import count_flops, save_index
from longtake.models.pvdm.losses import PatchDiscriminator
from longtake.models.pvdm.spec import read_config
from longtake.models.pvdm.unet import PvdmUnet
from longtake.train.fit.job import Job, frame_rate, num_weights, steps_in_words
from longtake.train.fit.latents import Share
from longtake.train.pvdm.autoencoder import AutoencoderTask, Discriminators, Draw, to_video
from longtake.train.pvdm.cache import LatentClips, clip_places, encode_footage
from longtake.train.pvdm.perceptual import load_perceptual
from longtake.train.pvdm.settings import AutoencoderRun, DiffusionRun
from longtake.train.pvdm.unet import DiffusionTask

Network = TypeVar("Network", PvdmAutoencoder, PvdmUnet)

NUM_SHOWN = 6
CLIPS_PER_FILE = 1_000
"""About as many latents lie in a file; encoding stops and goes on between files."""


def autoencoder_stage(run: AutoencoderRun, job: Job) -> bool:
    """Train the first stage: without discriminators, then, for `run.judges.steps` more steps, in turns with them.

    Returns whether it is finished: `final/autoencoder` then holds the network.
    """
    num_frames = run.network.grid.frames
    torch.manual_seed(run.fit.seed)
    network = _begun(lambda: PvdmAutoencoder(run.network), run.base).to(job.device)
    network.recompute = run.recompute
    distance = load_perceptual(run.perceptual.kind, run.perceptual.vgg, job.device)
    num_steps = run.fit.num_steps + run.judges.steps
    weights = num_weights(network)
    plan = f"autoencoder of {weights:,} weights, {_clips(job.train, run.network)}, perceptual {run.perceptual.kind}; "
    plan += steps_in_words(run.fit.num_steps, run.loss.batch_size, run.fit.parts)
    plan += f", then {run.judges.steps:,} in turns with discriminators" if run.judges.steps else ""
    levels = num_levels(run.network.grid)
    plan += (
        f"; its latents suit a UNet of at most {levels} --multipliers" if levels < len(UnetConfig.multipliers) else ""
    )
    draw, shown = footage_draw(job.train, num_frames), _shown(job.shown, num_frames)
    with job.begun("pvdm-autoencoder", plan, weights=weights, perceptual=run.perceptual.kind):
        task, phase = AutoencoderTask(network, draw, shown, run.loss, distance), None
        if run.judges.steps:
            torch.manual_seed(run.fit.seed + 1)
            both = Discriminators(*(PatchDiscriminator(axes, run.judges.channels) for axes in (2, 3)))
            phase = task.with_discriminators(both.to(job.device), run.fit.num_steps, run.judges.learning_rate)
        held_out = partial(task.held_out, run.perceptual.kind) if job.held_back else None
        return job.fit(task, replace(run.fit, num_steps=num_steps), phase, held_out=held_out)


def diffusion_stage(run: DiffusionRun, job: Job) -> bool:
    """Encode all clips into `latents/`, and train the second stage on them.

    Returns whether it is finished: `final/` then is a whole model. Raises InputError where nothing can be learnt about
    going on, but should.
    """
    config = read_config(AutoencoderConfig, run.autoencoder)
    num_frames = config.grid.frames
    longest = max(recording.num_frames for recording in job.train.recordings)
    if run.loss.conditional and longest < 2 * num_frames:
        raise InputError(
            f"no recording has two clips of {num_frames} frames, the longest has {longest} frames: nothing shows how a "
            "clip goes on; give longer videos, or --conditional 0"
        )
    torch.manual_seed(run.fit.seed)
    unet = _begun(lambda: PvdmUnet(run.network), run.base).to(job.device)
    unet.recompute = run.recompute
    weights, num_clips = num_weights(unet), len(clip_places(job.train, num_frames, run.every))
    cache = 2 * num_clips * config.latent_channels * config.grid.positions
    plan = f"UNet of {weights:,} weights, {_clips(job.train, config)}; latents of {num_clips:,} of them, from every "
    plan += f"{'frame' if run.every == 1 else f'{run.every} frames'}: {cache / 1e6:,.1f} MB; "
    plan += steps_in_words(run.fit.num_steps, run.loss.batch_size, run.fit.parts)
    with job.begun("pvdm", plan, weights=weights):
        autoencoder = frozen_autoencoder(run.autoencoder, job.device)
        per_file = max(1, CLIPS_PER_FILE * len(job.train.recordings) // num_clips)
        told = {"every": run.every, "autoencoder": digest([run.autoencoder]), "precision": run.fit.precision}

        def encode(folder: Path, share: Share) -> bool:
            precision = run.fit.precision
            return encode_footage(autoencoder, job.train, run.every, folder, job.limit, precision, share, per_file)

        latents = job.encoded(told, encode)
        if latents is None:
            return False
        task = DiffusionTask(unet, autoencoder, LatentClips(latents, num_frames), None, run.loss)

        def save(folder: Path) -> None:
            task.save(folder)
            copytree(run.autoencoder, folder / "autoencoder")
            costs = count_flops(config) | count_flops(run.network)
            save_index(folder, with_text=False, fps=frame_rate(job.train), guidance=1.0, **costs)

        held_out = None
        if job.held_back:
            unseen = autoencoder.encode(to_video(_shown(job.shown, num_frames).to(job.device))).float()
            held_out = partial(task.held_out, unseen)
        return job.fit(task, run.fit, save=save, held_out=held_out)


def _begun(make: Callable[[], Network], base: Path | None) -> Network:
    """Return a network with random weights, or with those in the folder of its like."""
    return make() if base is None else filled(make, base).float()


def frozen_autoencoder(part: Path, device: torch.device) -> PvdmAutoencoder:
    """Return the network in its folder, not to be trained. Raises CheckpointError for damaged files."""
    network = filled(lambda: PvdmAutoencoder(read_config(AutoencoderConfig, part)), part)
    return network.to(device).eval().requires_grad_(False)


def footage_draw(footage: Footage, num_frames: int) -> Draw:
    """Return what draws random clips of recordings, and reads several of them at the same time."""

    def draw(num_clips: int, generator: Generator) -> Tensor:
        windows = draw_windows(footage, num_frames, num_clips, generator)
        with ThreadPoolExecutor() as threads:
            clips = threads.map(lambda window: footage.clip(window[0], window[1], window[1] + num_frames), windows)
            return torch.from_numpy(np.stack(list(clips)))

    return draw


def num_levels(grid: Grid) -> int:
    """Return how many levels a UNet over this grid can have, each with planes of half the sides of the one before."""
    common = gcd(grid.frames, grid.rows, grid.columns)
    return (common & -common).bit_length()


def _shown(footage: Footage, num_frames: int) -> Tensor:
    """Return the first clips of the first recordings."""
    count = min(NUM_SHOWN, len(footage.recordings))
    return torch.from_numpy(np.stack([footage.clip(number, 0, num_frames) for number in range(count)]))


def _clips(footage: Footage, config: AutoencoderConfig) -> str:
    grid, patch = config.grid, config.patch
    count = len(clip_places(footage, grid.frames, 1))
    return f"{count:,} clips of {grid.frames}x{grid.rows * patch}x{grid.columns * patch}"
