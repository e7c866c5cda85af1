"""PVDM's training at tiny sizes."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from longtake.data.footage import Footage, Recording
from longtake.models.pvdm.autoencoder import PvdmAutoencoder
from longtake.models.pvdm.config import AutoencoderConfig, Grid, UnetConfig
from longtake.models.pvdm.losses import PatchDiscriminator
from longtake.models.pvdm.unet import PvdmUnet
from longtake.ranks.world import World
from longtake.train.fit.loop import fit
from longtake.train.fit.settings import FitSettings
from longtake.train.fit.task import AdversarialPhase
from longtake.train.pvdm.autoencoder import AutoencoderTask, Discriminators
from longtake.train.pvdm.cache import LatentClips, encode_footage
from longtake.train.pvdm.settings import AutoencoderLoss, DiffusionSettings
from longtake.train.pvdm.stages import footage_draw
from longtake.train.pvdm.unet import DiffusionTask

FRAMES, SIZE = 4, 16
AUTOENCODER = AutoencoderConfig(
    grid=Grid(frames=FRAMES, rows=2, columns=2),
    width=16,
    depth=1,
    heads=1,
    pool_depth=1,
    pool_heads=1,
    pool_hidden=8,
    latent_channels=2,
)
UNET = UnetConfig(
    grid=AUTOENCODER.grid,
    latent_channels=2,
    channels=8,
    multipliers=(1, 2),
    blocks=1,
    attention=(True, False),
    heads=2,
    groups=4,
)
PHASE_1 = 2
SETTINGS = FitSettings(
    num_steps=6, learning_rate=1e-2, warmup_steps=1, ema_every=2, log_every=2, precision="no", sample_minutes=1e9
)


def footage(lengths: tuple[int, ...] = (12, 9)) -> Footage:
    """Recordings of grey noise, the same every time."""
    videos = [np.random.default_rng(n).integers(0, 256, (n, SIZE, SIZE, 3), np.uint8) for n in lengths]
    recordings = [
        Recording(name=str(n), num_frames=len(video), fps=5.0, read=lambda start, stop, video=video: video[start:stop])
        for n, video in enumerate(videos)
    ]
    return Footage(recordings=tuple(recordings), size=SIZE)


def autoencoder_task(batch_size: int = 2) -> AutoencoderTask:
    """The same weights every time."""
    torch.manual_seed(0)
    shown = torch.zeros(1, FRAMES, SIZE, SIZE, 3, dtype=torch.uint8)
    draw = footage_draw(footage(), FRAMES)
    return AutoencoderTask(PvdmAutoencoder(AUTOENCODER), draw, shown, AutoencoderLoss(batch_size=batch_size))


def judges(task: AutoencoderTask) -> AdversarialPhase:
    """Discriminators from the second step on, the same weights every time."""
    torch.manual_seed(1)
    both = Discriminators(PatchDiscriminator(2, 4), PatchDiscriminator(3, 4))
    return task.with_discriminators(both, PHASE_1, 1e-2)


def cached(folder: Path, every: int = 1) -> LatentClips:
    """Latents of the recordings, by the untrained autoencoder."""
    encode_footage(autoencoder_task().autoencoder, footage(), every, folder, precision="no")
    return LatentClips(folder, FRAMES)


def diffusion_task(clips: LatentClips) -> DiffusionTask:
    """The same weights every time, and none of the zeros of a new network, through which nothing would flow."""
    torch.manual_seed(2)
    unet = PvdmUnet(UNET)
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    settings = DiffusionSettings(batch_size=3, conditional=0.5, sample_steps=2)
    return DiffusionTask(unet, autoencoder_task().autoencoder, clips, None, settings)


def parts_of(settings: FitSettings, parts: int) -> FitSettings:
    """The same with so many batches a step."""
    return replace(settings, parts=parts)


def weights(network: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of all weights."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def trained_on_a_rank(world: World, folder: str) -> dict[str, Tensor]:
    """Train in this process as torchrun would have it; return the weights."""
    from accelerate.state import AcceleratorState, GradientState

    place = {"RANK": world.rank, "WORLD_SIZE": world.size, "LOCAL_RANK": world.rank, "LOCAL_WORLD_SIZE": world.size}
    os.environ.update({name: str(value) for name, value in place.items()})
    try:
        task = autoencoder_task()
        fit(task, replace(parts_of(SETTINGS, 2), num_steps=4), Path(folder), discriminators=judges(task))
        return weights(task.autoencoder)
    finally:
        AcceleratorState._reset_state(True)
        GradientState._reset_state()
        for name in place:
            del os.environ[name]
