"""How the embedded `pvdm-sprites` was trained: every stage in full, and the stages in their order.

python -m longtake.train.pvdm.recipe STAGE FOLDER [MINUTES]
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Generator, Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from longtake.data.footage import Footage
from longtake.data.footage_sprites import sprite_worlds
from longtake.data.sprites import FPS, VOCABULARY, random_world, training_shots
from longtake.models import WEIGHTS
from longtake.models.pvdm.autoencoder import PvdmAutoencoder
from longtake.models.pvdm.config import AutoencoderConfig, Grid, UnetConfig
from longtake.models.pvdm.save import count_flops, save_index, save_network
from longtake.models.pvdm.unet import PvdmUnet
from longtake.train.fit.loop import FitSettings, fit
from longtake.train.pvdm.autoencoder import AutoencoderTask
from longtake.train.pvdm.cache import LatentClips, encode_footage
from longtake.train.pvdm.settings import AutoencoderLoss, DiffusionSettings, LossWeights
from longtake.train.pvdm.unet import Captions, DiffusionTask
from longtake.train.sprites.cache import caption_states

Stop = Callable[[int], bool]
FRAMES = 16
FIRST_SEED, NUM_WORLDS, LATEST_START = 6_000_000, 1_000_000, 2_000
HELD_OUT_SEED = 5_900_000
EVERY = 8
GUIDANCE = 2.0


def autoencoder_config() -> AutoencoderConfig:
    """A clip of 16 frames of 64x64 as three planes of 8x8, 16x8 and 16x8 cells."""
    return AutoencoderConfig(
        grid=Grid(frames=FRAMES, rows=8, columns=8),
        width=128,
        depth=3,
        heads=2,
        pool_depth=2,
        pool_hidden=256,
        latent_channels=16,
    )


def autoencoder() -> tuple[AutoencoderLoss, FitSettings]:
    """Pixels alone: no perceptual network and no discriminators."""
    fit = FitSettings(
        num_steps=8_000, learning_rate=8e-4, decay_steps=5_500, weight_decay=0.0, ema_decay=0.998, sample_minutes=4
    )
    return AutoencoderLoss(batch_size=2, weights=LossWeights(pixels=1.0, squares=4.0)), fit


def draw_worlds(num_clips: int, generator: Generator) -> Tensor:
    """Random clips of training worlds, drawn for this one step, uint8 (clips, frames, 64, 64, 3)."""
    seeds = torch.randint(NUM_WORLDS, (num_clips,), generator=generator) + FIRST_SEED
    starts = torch.randint(LATEST_START, (num_clips,), generator=generator)
    places = zip(seeds.tolist(), starts.tolist(), strict=True)
    clips = [random_world(seed).frames(start, start + FRAMES) for seed, start in places]
    return torch.from_numpy(np.stack(clips))


def held_out(num_clips: int) -> Tensor:
    """Clips of worlds that are never trained on."""
    clips = [random_world(HELD_OUT_SEED + number).frames(100, 100 + FRAMES) for number in range(num_clips)]
    return torch.from_numpy(np.stack(clips))


def footage() -> Footage:
    """The worlds of the second stage, 40 frames each."""
    return sprite_worlds(3_500, 40, first_seed=7_000_000)


def unet_config() -> UnetConfig:
    """Two levels, and text."""
    return UnetConfig(
        grid=autoencoder_config().grid,
        latent_channels=16,
        channels=56,
        multipliers=(1, 2),
        blocks=1,
        attention=(True, True),
        heads=4,
        groups=8,
        text_width=96,
        prediction="v_prediction",
    )


def diffusion() -> tuple[DiffusionSettings, FitSettings]:
    """Clips alone and clips that follow another, half of each."""
    fit = FitSettings(num_steps=6_000, learning_rate=1e-3, decay_steps=4_000, ema_decay=0.998, sample_minutes=4)
    return DiffusionSettings(batch_size=8, conditional=0.5), fit


def train_autoencoder(runs: Path, stop: Stop) -> None:
    """Stage 1."""
    settings, loop = autoencoder()
    torch.manual_seed(loop.seed)
    network = PvdmAutoencoder(autoencoder_config())
    fit(AutoencoderTask(network, draw_worlds, held_out(8), settings), loop, runs / "autoencoder", stop)


def encode(runs: Path, stop: Stop) -> None:
    """The cache of stage 2: clips from every eighth frame."""
    encode_footage(_autoencoder(runs), footage(), EVERY, runs / "latents", stop)


def train_diffusion(runs: Path, stop: Stop) -> None:
    """Stage 2."""
    settings, loop = diffusion()
    torch.manual_seed(loop.seed)
    clips = LatentClips(runs / "latents", FRAMES)
    task = DiffusionTask(PvdmUnet(unet_config()), _autoencoder(runs), clips, captions(), settings)
    fit(task, loop, runs / "unet", stop)


def write_weights(runs: Path, stop: Stop) -> None:
    """The model folder, in half precision; text encoder and tokenizer are those of `sprites` beside it."""
    folder = runs / "weights" / "pvdm-sprites"
    folder.mkdir(parents=True)
    configs: tuple[tuple[AutoencoderConfig | UnetConfig, str], ...] = (
        (autoencoder_config(), "autoencoder/final/autoencoder"),
        (unet_config(), "unet/final/unet"),
    )
    costs: dict[str, int] = {}
    for config, place in configs:
        tensors = load_file(runs / place / "diffusion_pytorch_model.safetensors")
        save_network(folder, config, {name: tensor.half() for name, tensor in tensors.items()})
        costs |= count_flops(config)
    words = list(VOCABULARY)
    save_index(folder, True, fps=float(FPS), guidance=GUIDANCE, vocabulary=words, shared="../sprites", **costs)


def captions() -> Captions:
    """All captions of the training worlds, by the text encoder of `sprites`."""
    tokenizer, encoder = text_encoder()
    table, empty = caption_states(encoder, tokenizer)
    number = {shot: index for index, shot in enumerate(training_shots())}
    recording = torch.tensor([number[recording.shot] for recording in footage().recordings if recording.shot])
    return Captions(table=table, empty=empty, recording=recording)


def text_encoder() -> tuple[CLIPTokenizer, CLIPTextModel]:
    """Those of the embedded `sprites`."""
    folder = WEIGHTS / "sprites"
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").float().eval().requires_grad_(False)
    return CLIPTokenizer.from_pretrained(folder / "tokenizer"), encoder


def _autoencoder(runs: Path) -> PvdmAutoencoder:
    network = PvdmAutoencoder(autoencoder_config())
    network.load_state_dict(load_file(runs / "autoencoder/final/autoencoder/diffusion_pytorch_model.safetensors"))
    return network.eval().requires_grad_(False)


STAGES: dict[str, Callable[[Path, Stop], None]] = {
    "autoencoder": train_autoencoder,
    "latents": encode,
    "unet": train_diffusion,
    "weights": write_weights,
}
"""Name of a stage -> function of the folder that all stages share and of when to stop, in the order they run in."""


def main() -> None:
    """Run a stage."""
    stage, folder, *minutes = sys.argv[1:]
    end = time.monotonic() + 60 * float(minutes[0]) if minutes else float("inf")
    STAGES[stage](Path(folder), lambda step: time.monotonic() > end)


if __name__ == "__main__":
    main()
