"""The stages of the training of `nuwa-sprites`, each a function of its settings and of where things lie."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import CLIPTextModel, CLIPTokenizer

from longtake.errors import InputError
from longtake.models.hub.folder import read_extras
from longtake.models.hub.load import noise_levels
from longtake.models.nuwa_xl.config import MtdConfig
from longtake.models.nuwa_xl.load import from_video_unet, load_unet
from longtake.models.nuwa_xl.save import count_flops, save_index, save_unet
from longtake.models.nuwa_xl.t_klvae import TemporalAutoencoder
from longtake.train.fit.loop import fit
from longtake.train.fit.settings import FitSettings
from longtake.train.nuwa_xl.data import SpriteStretches, StretchSettings, encode_stretches
from longtake.train.nuwa_xl.unet import MtdSettings, MtdTask
from longtake.train.nuwa_xl.vae import TemporalVaeSettings, TemporalVaeTask
from longtake.train.sprites.build import AutoencoderKL
from longtake.train.sprites.cache import embed_captions

Stop = Callable[[int], bool]
"""Asked before every step (before every file of the cache) whether to end early; the same call later continues."""


@dataclass(frozen=True, kw_only=True)
class NuwaPlaces:
    """Where the stages read and write."""

    runs: Path
    """Folder that all stages share."""
    images: Path
    """The image network: a UNet3DConditionModel that was trained on pictures."""
    embedded: Path
    """Folder of the model with the autoencoder, the text encoder, the tokenizer and the noise levels."""


def encode(settings: StretchSettings, places: NuwaPlaces, stop: Stop) -> None:
    """Embed all training captions, and encode the worlds."""
    captions = places.runs / "captions.safetensors"
    if not captions.exists():
        tokenizer = CLIPTokenizer.from_pretrained(places.embedded / "tokenizer", local_files_only=True)
        encoder = CLIPTextModel.from_pretrained(places.embedded / "text_encoder", dtype=torch.float32)
        embed_captions(encoder, tokenizer, captions)
    encode_stretches(embedded_vae(places), settings, places.runs / "stretches", stop)


def train_mtd(
    config: MtdConfig,
    settings: MtdSettings,
    loop: FitSettings,
    places: NuwaPlaces,
    stop: Stop,
) -> None:
    """Train the UNet from the image network on what `encode` left."""
    if not places.images.exists():
        raise InputError(f"{places.images} does not exist; make it by longtake train sprites images, or name another")
    torch.manual_seed(loop.seed)
    network = from_video_unet(places.images, config).requires_grad_(True)
    source = SpriteStretches(places.runs / "stretches", places.runs / "captions.safetensors", config.strides)
    alphas_cumprod, _ = noise_levels(places.embedded / "scheduler")
    task = MtdTask(network, alphas_cumprod, embedded_vae(places), source, settings)
    fit(task, loop, places.runs / "mtd", stop)


def train_t_klvae(
    settings: TemporalVaeSettings, loop: FitSettings, frames: int, places: NuwaPlaces, stop: Stop
) -> None:
    """Train T-KLVAE from the embedded autoencoder, for comparison: `nuwa-sprites` keeps the latter, frame by frame."""
    torch.manual_seed(loop.seed)
    network = TemporalAutoencoder(embedded_vae(places), frames)
    fit(TemporalVaeTask(network, settings), loop, places.runs / "t_klvae", stop)


def write_weights(guidance: float, infill_guidance: float, places: NuwaPlaces, stop: Stop) -> None:
    """Write `nuwa-sprites` into runs/weights: a UNet in half precision, which shares all else with `sprites`."""
    finished = places.runs / "mtd" / "final"
    if not finished.exists():
        raise InputError(f"{finished} does not exist; the stage mtd must finish first")
    folder, network = places.runs / "weights" / "nuwa-sprites", load_unet(finished)
    save_unet(folder / "unet", network, torch.float16)
    tokenizer = CLIPTokenizer.from_pretrained(places.embedded / "tokenizer", local_files_only=True)
    shared, flops = read_extras(places.embedded), count_flops(network, tokenizer.model_max_length)
    extras = {"guidance": guidance, "infill_guidance": infill_guidance, "fps": shared.fps}
    extras |= {"vocabulary": shared.vocabulary, "forward_flops": flops}
    save_index(folder, extras | {"decode_flops": shared.decode_flops, "shared": f"../{places.embedded.name}"})


def embedded_vae(places: NuwaPlaces) -> AutoencoderKL:
    """Return the image autoencoder that all stages use."""
    return AutoencoderKL.from_pretrained(places.embedded / "vae", torch_dtype=torch.float32)
