"""The stages of the embedded model's training, each a function of its settings and of the folder that all share.

Each needs what earlier stages left in that folder, and says so where it is missing.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from transformers import CLIPTextModel, CLIPTokenizer

from longtake.data.sprites import VOCABULARY, grammar_corpus
from longtake.errors import InputError
from longtake.train.fit.loop import FitSettings, fit
from longtake.train.sprites.assemble import Extras, assemble, assemble_sibling
from longtake.train.sprites.build import (
    AutoencoderKL,
    SpriteSizes,
    UNet3DConditionModel,
    build_scheduler,
    build_text_encoder,
    build_unet,
    build_vae,
)
from longtake.train.sprites.cache import CacheSettings, LatentClips, embed_captions, encode_worlds
from longtake.train.sprites.text import TextSettings, TextTask
from longtake.train.sprites.tokenizer import end_of_text, train_tokenizer
from longtake.train.sprites.unet import DenoiserSettings, DenoiserTask
from longtake.train.sprites.vae import VaeSettings, VaeTask

Stop = Callable[[int], bool]
"""Asked before every step (before every file in the caches) whether to end early; the same call later continues."""


def train_vae(settings: VaeSettings, loop: FitSettings, runs: Path, stop: Stop) -> None:
    """Train the picture autoencoder."""
    torch.manual_seed(loop.seed)
    fit(VaeTask(build_vae(SpriteSizes()), settings), loop, runs / "vae", stop)


def train_decoder(settings: VaeSettings, loop: FitSettings, runs: Path, stop: Stop) -> None:
    """Train the decoder further; `decoder/final` then replaces `vae/final` when assembling."""
    fit(VaeTask(_vae(runs), settings), loop, runs / "decoder", stop)


def train_text(settings: TextSettings, loop: FitSettings, runs: Path, stop: Stop) -> None:
    """Train tokenizer and text encoder, then embed all training captions."""
    torch.manual_seed(loop.seed)
    tokenizer = train_tokenizer(grammar_corpus(), settings.max_tokens)
    encoder = build_text_encoder(SpriteSizes(), len(tokenizer), settings.max_tokens, end_of_text(tokenizer))
    fit(TextTask(encoder, tokenizer, settings), loop, runs / "text", stop)
    if (runs / "text" / "final").exists():
        _embed_text(runs)


def encode_videos(settings: CacheSettings, name: str, runs: Path, stop: Stop) -> None:
    """Encode many worlds into the folder `name`: "pictures" or "clips"."""
    encode_worlds(_vae(runs), settings, runs / name, stop)


def train_denoiser(
    settings: DenoiserSettings, loop: FitSettings, name: str, start: str | None, runs: Path, stop: Stop
) -> None:
    """Train the denoiser from what stage `start` left (None: from scratch), on pictures or clips."""
    torch.manual_seed(loop.seed)
    unet = UNet3DConditionModel.from_pretrained(_finished(runs, start)) if start else build_unet(SpriteSizes())
    data = runs / ("clips" if settings.num_frames > 1 else "pictures")
    clips = LatentClips(data, runs / "captions.safetensors")
    fit(DenoiserTask(unet, build_scheduler(), _vae(runs), clips, settings), loop, runs / name, stop)


def write_weights(guidance: float, runs: Path, weights: Path) -> None:
    """Assemble `sprites` and `sprites-uniform` in `weights` from finished stages; the better decoder if there is one.

    `sprites-uniform` holds only its denoiser; the loader takes everything else from `sprites`.
    """
    decoder = runs / "decoder" / "final"
    vae = decoder if decoder.exists() else _finished(runs, "vae")
    extras = Extras(guidance=guidance, clean_frames=True, vocabulary=VOCABULARY)
    complete = weights / "sprites"
    assemble(_finished(runs, "text"), vae, _finished(runs, "longer"), extras, complete)
    extras = replace(extras, clean_frames=False)
    assemble_sibling(_finished(runs, "uniform"), extras, complete, weights / "sprites-uniform")


def _vae(runs: Path) -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(_finished(runs, "vae"))


def _embed_text(runs: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(runs / "text" / "final" / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(runs / "text" / "final" / "text_encoder")
    embed_captions(encoder, tokenizer, runs / "captions.safetensors")


def _finished(runs: Path, stage: str) -> Path:
    """The folder that a stage left; InputError where it has not finished."""
    folder = runs / stage / "final"
    if not folder.exists():
        raise InputError(f"{folder} does not exist; stage {stage} must finish first: longtake train sprites {stage}")
    return folder
