"""Both stages of PVDM's training, from recordings to a model folder (Yu et al., CVPR 2023, arXiv 2302.07685, sec. 3).

Each is called in all processes of a job; the first one writes and speaks.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import gcd
from pathlib import Path
from shutil import copytree, rmtree

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Generator, Tensor

from longtake.data.draws import draw_windows
from longtake.data.footage import Footage
from longtake.errors import CheckpointError, InputError
from longtake.models.hub.files import digest
from longtake.models.hub.folder import stem
from longtake.models.pvdm.autoencoder import PvdmAutoencoder
from longtake.models.pvdm.config import AutoencoderConfig, Grid, UnetConfig
from longtake.models.pvdm.discriminators import PatchDiscriminator
from longtake.models.pvdm.save import count_flops, save_index
from longtake.models.pvdm.spec import read_config
from longtake.models.pvdm.unet import PvdmUnet
from longtake.train.fit.job import Job, Share, check_cache, frame_rate, num_weights, steps_in_words
from longtake.train.fit.loop import fit
from longtake.train.pvdm.autoencoder import AutoencoderTask, Draw
from longtake.train.pvdm.cache import LatentClips, clip_places, encode_footage
from longtake.train.pvdm.losses import Discriminators
from longtake.train.pvdm.perceptual import load_perceptual
from longtake.train.pvdm.settings import AutoencoderRun, DiffusionRun
from longtake.train.pvdm.unet import DiffusionTask

NUM_SHOWN = 6
CLIPS_PER_FILE = 1_000
"""About as many latents lie in a file; encoding stops and goes on between files."""


def autoencoder_stage(run: AutoencoderRun, job: Job) -> bool:
    """Train the first stage: without discriminators, then, for `run.judges.steps` more steps, in turns with them.

    Returns whether it is finished: `final/autoencoder` then holds the network.
    """
    num_frames = run.network.grid.frames
    torch.manual_seed(run.fit.seed)
    network = PvdmAutoencoder(run.network).to(job.device)
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
    job.begin("pvdm-autoencoder", plan, weights=weights, perceptual=run.perceptual.kind)
    task = AutoencoderTask(
        network, footage_draw(job.train, num_frames), _shown(job.shown, num_frames), run.loss, distance
    )
    rival = None
    if run.judges.steps:
        torch.manual_seed(run.fit.seed + 1)
        both = Discriminators(*(PatchDiscriminator(axes, run.judges.channels) for axes in (2, 3)))
        rival = task.with_judges(both.to(job.device), run.fit.num_steps, run.judges.learning_rate)
    return fit(task, replace(run.fit, num_steps=num_steps), job.folder, job.stop, rival)


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
    unet = PvdmUnet(run.network).to(job.device)
    unet.recompute = run.recompute
    weights, num_clips = num_weights(unet), len(clip_places(job.train, num_frames, run.every))
    cache = 2 * num_clips * config.latent_channels * config.grid.positions
    plan = f"UNet of {weights:,} weights, {_clips(job.train, config)}; latents of {num_clips:,} of them, from every "
    plan += f"{'frame' if run.every == 1 else f'{run.every} frames'}: {cache / 1e6:,.1f} MB; "
    plan += steps_in_words(run.fit.num_steps, run.loss.batch_size, run.fit.parts)
    job.begin("pvdm", plan, weights=weights)
    autoencoder = frozen_autoencoder(run.autoencoder, job.device)
    if not encode_stage(run, autoencoder, job):
        return False
    clips = LatentClips(job.folder / "latents", num_frames)
    done = fit(DiffusionTask(unet, autoencoder, clips, None, run.loss), run.fit, job.folder, job.stop)
    if done and job.world.rank == 0:
        complete_model(job.folder / "final", run.autoencoder, config, run.network, frame_rate(job.train))
    return done


def encode_stage(run: DiffusionRun, autoencoder: PvdmAutoencoder, job: Job) -> bool:
    """Write the latents of all clips to `latents/`, each process its share of the files; return whether all are there.

    Raises InputError where those that are there are of other clips, or by another autoencoder.
    """
    folder = job.folder / "latents"
    if job.world.rank == 0:
        told = {"recordings": job.data, "every": run.every}
        check_cache(folder, told | {"autoencoder": digest([run.autoencoder]), "precision": run.fit.precision})
    job.world.all.say("looked")
    share = Share(rank=job.world.rank, size=job.world.size)
    num_clips = len(clip_places(job.train, autoencoder.config.grid.frames, run.every))
    per_file = max(1, CLIPS_PER_FILE * len(job.train.recordings) // num_clips)
    done = encode_footage(autoencoder, job.train, run.every, folder, job.stop, run.fit.precision, share, per_file)
    return all(json.loads(told) for told in job.world.all.say(json.dumps(done)))


def complete_model(folder: Path, part: Path, autoencoder: AutoencoderConfig, unet: UnetConfig, fps: float) -> None:
    """Add to a folder that holds a `unet` without text what makes it a model: the autoencoder, and the index."""
    rmtree(folder / "autoencoder", ignore_errors=True)
    copytree(part, folder / "autoencoder")
    save_index(folder, with_text=False, fps=fps, guidance=1.0, **count_flops(autoencoder), **count_flops(unet))


def frozen_autoencoder(part: Path, device: torch.device) -> PvdmAutoencoder:
    """Return the network in its folder, not to be trained. Raises CheckpointError for damaged files."""
    network = PvdmAutoencoder(read_config(AutoencoderConfig, part))
    file = part / f"{stem(part.name)}.safetensors"
    try:
        network.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{file} is damaged ({' '.join(str(error).split())[:200]}); train it again") from error
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
