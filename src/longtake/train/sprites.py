"""The stages of the embedded model's training, each a function of the folder that all of them share.

They run in the order of `STAGES`; each needs what earlier ones left and says so where it is missing.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from longtake.data.sprites import VOCABULARY, grammar_corpus
from longtake.errors import InputError
from longtake.models.sprites.assemble import Extras, assemble, assemble_sibling
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


def train_decoder(runs: Path, stop: Stop) -> None:
    """Train the decoder further; the folder `decoder/final` then replaces `vae/final` when assembling."""
    settings, loop = recipe.decoder()
    fit(VaeTask(_vae(runs), settings), loop, runs / "decoder", stop)


def train_text(runs: Path, stop: Stop) -> None:
    """Train tokenizer and text encoder."""
    settings, loop = recipe.text()
    torch.manual_seed(loop.seed)
    tokenizer = train_tokenizer(grammar_corpus(), recipe.MAX_TOKENS)
    encoder = build_text_encoder(SpriteSizes(), len(tokenizer), recipe.MAX_TOKENS, tokenizer.eos_token_id)
    fit(TextTask(encoder, tokenizer, settings), loop, runs / "text", stop)


def embed_text(runs: Path, stop: Stop) -> None:
    """Embed all training captions."""
    text = _finished(runs, "text")
    tokenizer = CLIPTokenizer.from_pretrained(text / "tokenizer")
    embed_captions(CLIPTextModel.from_pretrained(text / "text_encoder"), tokenizer, runs / "captions.safetensors")


def encode_pictures(runs: Path, stop: Stop) -> None:
    """Encode the pictures of the first denoiser stage."""
    encode_worlds(_vae(runs), recipe.picture_cache(), runs / "pictures", stop)


def encode_clips(runs: Path, stop: Stop) -> None:
    """Encode the clips of the later stages."""
    encode_worlds(_vae(runs), recipe.clip_cache(), runs / "clips", stop)


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
    "captions": embed_text,
    "pictures": encode_pictures,
    "clips": encode_clips,
    "images": train_images,
    "uniform": train_uniform,
    "mixture": train_mixture,
    "decoder": train_decoder,
}
"""Name of a stage -> function of the folder and of when to stop early, in the order in which they run."""


def _train_denoiser(
    unet: UNet3DConditionModel, settings: tuple[DenoiserSettings, FitSettings], runs: Path, name: str, stop: Stop
) -> None:
    data = runs / ("clips" if settings[0].num_frames > 1 else "pictures")
    clips = LatentClips(data, runs / "captions.safetensors")
    fit(DenoiserTask(unet, build_scheduler(), _vae(runs), clips, settings[0]), settings[1], runs / name, stop)


def _vae(runs: Path) -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(_finished(runs, "vae"))


def _finished(runs: Path, stage: str) -> Path:
    """The folder that a stage left; InputError where it has not finished."""
    folder = runs / stage / "final"
    if not folder.exists():
        raise InputError(f"{folder} does not exist; stage {stage} must finish first: longtake train sprites-{stage}")
    return folder


def write_weights(runs: Path, weights: Path) -> None:
    """Assemble `sprites` and `sprites-uniform` in `weights` from finished stages; the better decoder if there is one.

    `sprites-uniform` holds only its denoiser; the loader takes everything else from `sprites`.
    """
    vae = runs / "decoder" / "final"
    vae = vae if vae.exists() else _finished(runs, "vae")
    extras = Extras(guidance=recipe.GUIDANCE, clean_frames=True, vocabulary=VOCABULARY)
    complete = weights / "sprites"
    assemble(_finished(runs, "text"), vae, _finished(runs, "mixture"), extras, complete)
    extras = replace(extras, clean_frames=False)
    assemble_sibling(_finished(runs, "uniform"), extras, complete, weights / "sprites-uniform")
