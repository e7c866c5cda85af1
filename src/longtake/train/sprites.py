"""The stages of the embedded model's training, each a function of the folder that all of them share.

vae and text need nothing, cache needs both, images needs the cache, uniform needs images, mixture needs uniform.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from longtake.data.sprites import grammar_corpus
from longtake.errors import InputError
from longtake.models.sprites.build import SpriteSizes, build_scheduler, build_text_encoder, build_unet, build_vae
from longtake.models.sprites.tokenizer import train_tokenizer
from longtake.recipes import sprites as recipe
from longtake.train.loop import FitSettings, fit
from longtake.train.sprite_cache import LatentClips, embed_captions, encode_worlds
from longtake.train.sprite_text import TextTask
from longtake.train.sprite_unet import DenoiserSettings, DenoiserTask
from longtake.train.sprite_vae import VaeTask

Stop = Callable[[int], bool]


def train_vae(runs: Path, stop: Stop) -> None:
    """Train the picture autoencoder."""
    settings, loop = recipe.vae()
    torch.manual_seed(loop.seed)
    fit(VaeTask(build_vae(SpriteSizes()), settings), loop, runs / "vae", stop)


def train_text(runs: Path, stop: Stop) -> None:
    """Train tokenizer and text encoder."""
    settings, loop = recipe.text()
    torch.manual_seed(loop.seed)
    tokenizer = train_tokenizer(grammar_corpus(), recipe.MAX_TOKENS)
    encoder = build_text_encoder(SpriteSizes(), len(tokenizer), recipe.MAX_TOKENS, tokenizer.eos_token_id)
    fit(TextTask(encoder, tokenizer, settings), loop, runs / "text", stop)


def make_cache(runs: Path, stop: Stop) -> None:
    """Encode the worlds and embed the captions."""
    text = _finished(runs, "text")
    tokenizer = CLIPTokenizer.from_pretrained(text / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(text / "text_encoder")
    (runs / "cache").mkdir(parents=True, exist_ok=True)
    embed_captions(encoder, tokenizer, runs / "cache" / "captions.safetensors")
    encode_worlds(AutoencoderKL.from_pretrained(_finished(runs, "vae")), recipe.cache(), runs / "cache", stop)


def train_images(runs: Path, stop: Stop) -> None:
    """Train the denoiser on single pictures."""
    torch.manual_seed(0)
    _train_denoiser(build_unet(SpriteSizes()), recipe.images(), runs, "images", stop)


def train_uniform(runs: Path, stop: Stop) -> None:
    """Train on clips with one noise level each."""
    unet = UNet3DConditionModel.from_pretrained(_finished(runs, "images"))
    _train_denoiser(unet, recipe.uniform(), runs, "uniform", stop)


def train_mixture(runs: Path, stop: Stop) -> None:
    """Train on clips with a noise level for every frame."""
    unet = UNet3DConditionModel.from_pretrained(_finished(runs, "uniform"))
    _train_denoiser(unet, recipe.mixture(), runs, "mixture", stop)


STAGES: dict[str, Callable[[Path, Stop], None]] = {
    "vae": train_vae,
    "text": train_text,
    "cache": make_cache,
    "images": train_images,
    "uniform": train_uniform,
    "mixture": train_mixture,
}
"""Name of a stage -> function of the folder and of when to stop early, in the order in which they run."""


def _train_denoiser(
    unet: UNet3DConditionModel, settings: tuple[DenoiserSettings, FitSettings], runs: Path, name: str, stop: Stop
) -> None:
    vae = AutoencoderKL.from_pretrained(_finished(runs, "vae"))
    clips = LatentClips(runs / "cache", runs / "cache" / "captions.safetensors")
    fit(DenoiserTask(unet, build_scheduler(), vae, clips, settings[0]), settings[1], runs / name, stop)


def _finished(runs: Path, stage: str) -> Path:
    """The folder that a stage left; InputError where it has not finished."""
    folder = runs / stage / "final"
    if not folder.exists():
        raise InputError(f"{folder} does not exist; stage {stage} must finish first: longtake train sprites-{stage}")
    return folder
