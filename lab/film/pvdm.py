"""A small PVDM on one film: python -m lab.film.pvdm STAGE FILM_FOLDER RUN_FOLDER [MINUTES].

FILM_FOLDER is what `lab.film.big_buck_bunny` leaves: every shot at 64x64. STAGE is autoencoder, latents or
unet, in this order; one that was interrupted continues. RUN_FOLDER/unet/final is a model, which knows no text. Eight
minutes of one film are learnt by heart: this shows that training works, and not that the model could invent.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from lab.film.big_buck_bunny import SIZE
from longtake.data.footage import Footage, in_memory
from longtake.data.footage_files import video_folder
from longtake.models.pvdm.config import AutoencoderConfig, Grid, UnetConfig
from longtake.ranks.world import ALONE
from longtake.train.fit.run_record import settings_of
from longtake.train.fit.settings import FitSettings
from longtake.train.pvdm.settings import (
    AutoencoderLoss,
    AutoencoderRun,
    DiffusionRun,
    DiffusionSettings,
    Judges,
    LossWeights,
    PerceptualChoice,
)
from longtake.train.pvdm.stages import Job, autoencoder_stage, diffusion_stage, encode_stage, frozen_autoencoder
from longtake.video.seekable import open_video

FRAMES = 16
Stop = Callable[[int], bool]


def autoencoder() -> AutoencoderRun:
    """Pixels alone, planes of 8x8, 16x8 and 16x8 cells; some 20 minutes on one core."""
    fit = FitSettings(
        num_steps=4_000, learning_rate=8e-4, decay_steps=2_800, weight_decay=0.0, ema_decay=0.998, sample_minutes=4
    )
    network = AutoencoderConfig(
        grid=Grid(frames=FRAMES, rows=8, columns=8),
        width=128,
        depth=3,
        heads=2,
        pool_depth=2,
        pool_hidden=256,
        latent_channels=16,
    )
    return AutoencoderRun(
        network=network,
        loss=AutoencoderLoss(batch_size=2, weights=LossWeights(pixels=1.0, squares=4.0)),
        perceptual=PerceptualChoice(),
        judges=Judges(),
        fit=fit,
        recompute=False,
    )


def diffusion(runs: Path) -> DiffusionRun:
    """Clips from every frame, half of them after the one before."""
    network = UnetConfig(
        grid=autoencoder().network.grid,
        latent_channels=16,
        channels=56,
        multipliers=(1, 2),
        blocks=1,
        attention=(True, True),
        heads=4,
        groups=8,
        prediction="v_prediction",
    )
    return DiffusionRun(
        network=network,
        autoencoder=runs / "autoencoder" / "final" / "autoencoder",
        every=1,
        loss=DiffusionSettings(batch_size=16, conditional=0.5),
        fit=FitSettings(num_steps=3_000, learning_rate=1.2e-3, decay_steps=2_000, ema_decay=0.998, sample_minutes=4),
        recompute=False,
    )


def train_autoencoder(film: Path, runs: Path, stop: Stop) -> None:
    """Stage 1."""
    run = autoencoder()
    autoencoder_stage(run, _job(shots(film), runs / "autoencoder", stop, run))


def encode(film: Path, runs: Path, stop: Stop) -> None:
    """The cache of stage 2."""
    run = diffusion(runs)
    network = frozen_autoencoder(run.autoencoder, torch.device("cpu"))
    encode_stage(run, network, _job(shots(film), runs / "unet", stop, run))


def train_diffusion(film: Path, runs: Path, stop: Stop) -> None:
    """Stage 2."""
    run = diffusion(runs)
    diffusion_stage(run, _job(shots(film), runs / "unet", stop, run))


def shots(film: Path) -> Footage:
    """Every shot that is long enough for a clip."""
    return in_memory(video_folder(film, size=SIZE, min_frames=FRAMES, open_video=open_video))


def _job(footage: Footage, folder: Path, stop: Stop, run: AutoencoderRun | DiffusionRun) -> Job:
    return Job(
        folder=folder,
        train=footage,
        shown=footage,
        settings=settings_of(run=run),
        device=torch.device("cpu"),
        world=ALONE,
        stop=stop,
    )


STAGES: dict[str, Callable[[Path, Path, Stop], None]] = {
    "autoencoder": train_autoencoder,
    "latents": encode,
    "unet": train_diffusion,
}
"""Name of a stage -> function of the film's folder, the run's, and of when to stop, in the order they run in."""


def main() -> None:
    """Run a stage."""
    stage, film, runs, *minutes = sys.argv[1:]
    end = time.monotonic() + 60 * float(minutes[0]) if minutes else float("inf")
    STAGES[stage](Path(film), Path(runs), lambda step: time.monotonic() > end)


if __name__ == "__main__":
    main()
