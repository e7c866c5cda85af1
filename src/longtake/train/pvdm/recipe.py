"""How the embedded `pvdm-sprites` was trained: every stage in full, and the stages in their order.

What a clip shows is told by the captions' states of `sprites`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Generator, Tensor

from longtake.data.footage import Footage
from longtake.data.footage_files import sprite_worlds
from longtake.data.sprites import FPS, VOCABULARY, random_world, training_shots
from longtake.models.embedded import WEIGHTS
from longtake.models.hub.configs import stem
from longtake.models.hub.load import filled
from longtake.models.pvdm.autoencoder import PvdmAutoencoder
from longtake.models.pvdm.config import AutoencoderConfig, Grid, UnetConfig
from longtake.models.pvdm.load import count_flops, save_index, save_network
from longtake.models.pvdm.spec import read_config
from longtake.models.pvdm.unet import PvdmUnet
from longtake.train.fit.runs import BASE, Runs, Stage
from longtake.train.fit.settings import FitSettings
from longtake.train.pvdm.autoencoder import AutoencoderTask
from longtake.train.pvdm.cache import LatentClips, encode_footage
from longtake.train.pvdm.settings import AutoencoderLoss, DiffusionSettings, LossWeights
from longtake.train.pvdm.stages import frozen_autoencoder
from longtake.train.pvdm.unet import Captions, DiffusionTask

FIRST_SEED, NUM_WORLDS, LATEST_START = 6_000_000, 1_000_000, 2_000
HELD_OUT_SEED = 5_900_000
EVERY = 8
GUIDANCE = 4.0


AUTOENCODER = AutoencoderConfig(
    grid=Grid(frames=16, rows=8, columns=8),
    width=128,
    depth=3,
    heads=2,
    pool_depth=2,
    pool_hidden=256,
    latent_channels=16,
)
"""A clip of 16 frames of 64x64 as three planes of 8x8, 16x8 and 16x8 cells."""
AUTOENCODER_LOSS = AutoencoderLoss(batch_size=2, weights=LossWeights(pixels=1.0, squares=4.0))
"""Pixels alone: no perceptual network and no discriminators."""
AUTOENCODER_FIT = FitSettings(
    num_steps=8_000, learning_rate=8e-4, decay_steps=5_500, weight_decay=0.0, ema_decay=0.998, sample_minutes=4
)
DECODER_LOSS = AutoencoderLoss(
    batch_size=2, weights=LossWeights(pixels=1.0, squares=4.0, edges=0.5), decoder_only=True, latent_noise=0.05
)
"""Of more steps for the decoder alone, whose patches should not show."""
DECODER_FIT = FitSettings(num_steps=8_000, learning_rate=5e-4, decay_steps=6_000, weight_decay=0.0, ema_decay=0.998)
UNET = UnetConfig(
    grid=AUTOENCODER.grid,
    latent_channels=AUTOENCODER.latent_channels,
    channels=56,
    multipliers=(1, 2),
    blocks=1,
    attention=(True, True),
    heads=4,
    groups=8,
    text_width=96,
    prediction="v_prediction",
)
"""Two levels, and text."""
UNET_LOSS = DiffusionSettings(batch_size=8, conditional=0.5, guidance=GUIDANCE)
"""Clips alone and clips that follow another, half of each."""
UNET_FIT = FitSettings(
    num_steps=20_000, learning_rate=8e-4, decay_steps=14_000, ema_decay=0.998, seed=6, save_minutes=10
)


def take_package(runs: Runs) -> None:
    """Fill a new folder with `pvdm-sprites` of the package: stage `pvdm-unet` goes on with its UNet."""
    shipped, begun = WEIGHTS / "pvdm-sprites", runs.folder / BASE / "pvdm-unet"
    _copy_network(shipped / "autoencoder", runs.folder / "pvdm-autoencoder" / "final", torch.float32)
    _copy_network(shipped / "unet", begun, torch.float32)


def draw_worlds(frames: int, num_clips: int, generator: Generator) -> Tensor:
    """Random clips of training worlds, drawn for this one step, uint8 (clips, frames, 64, 64, 3)."""
    seeds = torch.randint(NUM_WORLDS, (num_clips,), generator=generator) + FIRST_SEED
    starts = torch.randint(LATEST_START, (num_clips,), generator=generator)
    places = zip(seeds.tolist(), starts.tolist(), strict=True)
    clips = [random_world(seed).frames(start, start + frames) for seed, start in places]
    return torch.from_numpy(np.stack(clips))


def held_out(frames: int, num_clips: int = 8) -> Tensor:
    """Clips of worlds that are never trained on."""
    clips = [random_world(HELD_OUT_SEED + number).frames(100, 100 + frames) for number in range(num_clips)]
    return torch.from_numpy(np.stack(clips))


def footage() -> Footage:
    """The worlds of the second stage, 40 frames each."""
    return sprite_worlds(4_000, 40, first_seed=7_100_000)


def train_autoencoder(config: AutoencoderConfig, settings: AutoencoderLoss, loop: FitSettings, runs: Runs) -> bool:
    """Stage 1."""
    torch.manual_seed(loop.seed)
    network, frames = runs.moved(PvdmAutoencoder(config)), config.grid.frames
    task = AutoencoderTask(network, partial(draw_worlds, frames), held_out(frames), settings)
    return runs.fit("pvdm-autoencoder", task, loop)


def train_decoder(settings: AutoencoderLoss, loop: FitSettings, runs: Runs) -> bool:
    """Train the decoder further, at any time: latents stay what they are."""
    network = _autoencoder(runs).requires_grad_(True)
    frames = network.config.grid.frames
    return runs.fit(
        "pvdm-decoder", AutoencoderTask(network, partial(draw_worlds, frames), held_out(frames), settings), loop
    )


def encode(worlds: Callable[[], Footage], every: int, runs: Runs) -> bool:
    """The cache of stage 2: clips from every `every`-th frame."""
    return encode_footage(_autoencoder(runs), worlds(), every, runs.folder / "pvdm-latents", runs.limit.after_one)


def train_diffusion(
    config: UnetConfig, settings: DiffusionSettings, loop: FitSettings, worlds: Callable[[], Footage], runs: Runs
) -> bool:
    """Stage 2."""
    torch.manual_seed(loop.seed)
    clips, unet = LatentClips(runs.latents("pvdm-latents"), config.grid.frames), PvdmUnet(config)
    begun = runs.folder / BASE / "pvdm-unet" / "unet"
    if begun.exists():
        unet = filled(lambda: PvdmUnet(config), begun)
    told = captions(worlds(), runs.captions)
    task = DiffusionTask(runs.moved(unet), _autoencoder(runs), clips, told, settings)
    return runs.fit("pvdm-unet", task, loop)


def write_weights(runs: Runs, weights: Path) -> None:
    """Write `pvdm-sprites` into `weights`, in half precision; text encoder and tokenizer are those of `sprites`."""
    folder, costs = weights / "pvdm-sprites", dict[str, int]()
    folder.mkdir(parents=True)
    autoencoder = runs.furthest("pvdm-autoencoder", "pvdm-decoder") / "autoencoder"
    for place in (autoencoder, runs.final("pvdm-unet") / "unet"):
        costs |= count_flops(_copy_network(place, folder, torch.float16))
    words = list(VOCABULARY)
    save_index(folder, True, fps=float(FPS), guidance=GUIDANCE, vocabulary=words, shared="../sprites", **costs)


def captions(worlds: Footage, states: Path) -> Captions:
    """Return the captions of worlds, whose `states` are in a file."""
    tensors = load_file(states)
    number = {shot: index for index, shot in enumerate(training_shots())}
    recording = torch.tensor([number[recording.shot] for recording in worlds.recordings if recording.shot])
    return Captions(table=tensors["table"], empty=tensors["empty"], recording=recording)


def _copy_network(place: Path, folder: Path, dtype: torch.dtype) -> AutoencoderConfig | UnetConfig:
    """Write the network in `place`, `autoencoder` or `unet`, into a model folder in this format; return its config."""
    is_unet = place.name == "unet"
    config = read_config(UnetConfig, place) if is_unet else read_config(AutoencoderConfig, place)
    tensors = load_file(place / f"{stem(place.name)}.safetensors")
    folder.mkdir(parents=True, exist_ok=True)
    save_network(folder, config, {name: tensor.to(dtype) for name, tensor in tensors.items()})
    return config


def _autoencoder(runs: Runs) -> PvdmAutoencoder:
    return frozen_autoencoder(runs.final("pvdm-autoencoder") / "autoencoder", runs.device)


STAGES = {
    "pvdm-autoencoder": Stage(
        run=train_autoencoder, settings=(AUTOENCODER, AUTOENCODER_LOSS, AUTOENCODER_FIT), share=7
    ),
    "pvdm-latents": Stage(run=encode, settings=(footage, EVERY), share=2),
    "pvdm-unet": Stage(run=train_diffusion, settings=(UNET, UNET_LOSS, UNET_FIT, footage), share=6),
    # At any time: latents stay what they are.
    "pvdm-decoder": Stage(run=train_decoder, settings=(DECODER_LOSS, DECODER_FIT), share=3),
}
"""After those of `sprites`, in the order they run in."""
