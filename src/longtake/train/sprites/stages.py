"""The stages of the embedded model's training, each a function of its settings and of the folder that all share.

Each needs what earlier stages left in that folder, and says so where it is missing. They return
whether they are finished.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextModel, CLIPTokenizer

from longtake.data.sprites import FPS, VOCABULARY, grammar_corpus
from longtake.models.embedded import WEIGHTS
from longtake.train.fit.checkpoint import new_folder, put_in_place
from longtake.train.fit.runs import Runs
from longtake.train.fit.settings import FitSettings
from longtake.train.sprites.assemble import assemble, assemble_sibling
from longtake.train.sprites.build import (
    AutoencoderKL,
    SpriteSizes,
    UNet3DConditionModel,
    build_scheduler,
    build_text_encoder,
    build_unet,
    build_vae,
    rebuilt_unet,
)
from longtake.train.sprites.cache import CacheSettings, LatentClips, embed_captions, encode_worlds
from longtake.train.sprites.text import TextSettings, TextTask, end_of_text, train_tokenizer
from longtake.train.sprites.unet import DenoiserSettings, GuidedTask, UnetTask
from longtake.train.sprites.vae import VaeSettings, VaeTask


def train_vae(sizes: SpriteSizes, settings: VaeSettings, loop: FitSettings, runs: Runs) -> bool:
    """Train the picture autoencoder."""
    torch.manual_seed(loop.seed)
    return runs.fit("vae", VaeTask(runs.moved(build_vae(sizes)), settings), loop)


def train_decoder(settings: VaeSettings, loop: FitSettings, runs: Runs) -> bool:
    """Train the decoder further; `decoder/final` then replaces `vae/final` when assembling."""
    return runs.fit("decoder", VaeTask(trained_vae(runs), settings), loop)


def train_text(sizes: SpriteSizes, settings: TextSettings, loop: FitSettings, runs: Runs) -> bool:
    """Train tokenizer and text encoder, then embed all training captions."""
    torch.manual_seed(loop.seed)
    tokenizer = _tokenizer(settings, runs.folder / "text")
    encoder = build_text_encoder(sizes, len(tokenizer), settings.max_tokens, end_of_text(tokenizer))
    done = runs.fit("text", TextTask(runs.moved(encoder), tokenizer, settings), loop)
    return _embed_text(settings, runs) and done


def _tokenizer(settings: TextSettings, folder: Path) -> CLIPTokenizer:
    """Return the tokenizer that was learnt when the stage in this folder began."""
    place = folder / "tokenizer"
    # Learnt again, its tokens have other numbers, and what the encoder has learnt of one would be said of another.
    if not place.exists():
        with new_folder(folder / "tokenizer.new", "the tokenizer") as new:
            train_tokenizer(grammar_corpus(), settings.max_tokens).save_pretrained(new)
        put_in_place(new, place)
    return CLIPTokenizer.from_pretrained(place)


def encode_videos(settings: CacheSettings, name: str, runs: Runs) -> bool:
    """Encode many worlds into the folder `name`: "pictures" or "clips"."""
    return encode_worlds(trained_vae(runs), settings, runs.folder / name, runs.limit.after_one)


def train_denoiser(
    sizes: SpriteSizes, settings: DenoiserSettings, loop: FitSettings, name: str, start: str | None, runs: Runs
) -> bool:
    """Train the denoiser from what stage `start` left (None: from scratch), on pictures or clips."""
    torch.manual_seed(loop.seed)
    unet: Any = UNet3DConditionModel.from_pretrained(runs.final(start)) if start else build_unet(sizes)
    if unet.config.in_channels != sizes.latent_channels * sizes.cell**2:
        unet = rebuilt_unet(unet, sizes)
    vae = trained_vae(runs)
    clips = LatentClips(runs.latents("clips" if settings.num_frames > 1 else "pictures"), runs.captions, sizes.cell)
    beside = LatentClips(runs.latents("pictures"), runs.captions, sizes.cell) if settings.pictures else None
    task = UnetTask(runs.moved(unet), build_scheduler(sizes.predicts), vae, clips, settings, beside)
    return runs.fit(name, task, loop)


def train_guided(
    sizes: SpriteSizes, settings: DenoiserSettings, loop: FitSettings, name: str, start: str, runs: Runs
) -> bool:
    """Train what stage `start` left to say in one branch what it says with guidance, on the clips of `switches`."""
    torch.manual_seed(loop.seed)
    unet, teacher = (runs.moved(UNet3DConditionModel.from_pretrained(runs.final(start))) for _ in range(2))
    clips = LatentClips(runs.latents("switches"), runs.captions, sizes.cell)
    task = GuidedTask(teacher, unet, build_scheduler(sizes.predicts), trained_vae(runs), clips, settings)
    return runs.fit(name, task, loop)


def write_sharp(sizes: SpriteSizes, guidance: float, stage: str, runs: Runs) -> bool:
    """Assemble what `stage` left, a UNet, with the better decoder if there is one, in `weights/sprites-sharp`."""
    folder = runs.folder / "weights" / "sprites-sharp"
    assemble(
        runs.final("text"),
        runs.furthest("vae", "decoder"),
        runs.final(stage),
        _extras(guidance),
        folder,
        sizes.predicts,
    )
    return True


def take_base(base: Path, runs: Runs) -> None:
    """Begin a new folder of runs with the autoencoder of a folder, as if its stage had just ended."""
    AutoencoderKL.from_pretrained(base / "vae").float().save_pretrained(runs.folder / "vae" / "final")


def take_sprites(runs: Runs) -> bool:
    """Fill the stages `sprites` and `text` with the UNet and the text encoder of the package, which belong together."""
    _take_unet("sprites", "sprites", runs)
    return _take_text(runs)


def take_package(runs: Runs) -> bool:
    """Fill a new folder with what the package holds, as if stage `further` had just ended: `fast` can follow."""
    _take_unet("sprites", "further", runs)
    AutoencoderKL.from_pretrained(WEIGHTS / "sprites" / "vae").float().save_pretrained(runs.folder / "vae" / "final")
    return _take_text(runs)


def write_weights(guidance: float, runs: Runs, weights: Path) -> None:
    """Assemble the three models in `weights` from finished stages; the better decoder if there is one.

    All but `sprites` hold only their denoisers; the loader takes everything else from `sprites`.
    """
    complete, extras = weights / "sprites", _extras(guidance)
    assemble(runs.final("text"), runs.furthest("vae", "decoder"), runs.final("further"), extras, complete)
    assemble_sibling(runs.final("uniform"), {**extras, "clean_frames": False}, complete, weights / "sprites-uniform")
    assemble_sibling(runs.final("fast"), {**extras, "learnt_guidance": guidance}, complete, weights / "sprites-fast")


def trained_vae(runs: Runs) -> AutoencoderKL:
    """Return the picture autoencoder that all later stages take."""
    return runs.moved(AutoencoderKL.from_pretrained(runs.final("vae")))


def _extras(guidance: float) -> dict[str, Any]:
    told = {"guidance": guidance, "clean_frames": True, "vocabulary": VOCABULARY}
    return {**told, "num_frames": 16, "fps": FPS}


def _take_unet(model: str, stage: str, runs: Runs) -> None:
    unet: Any = UNet3DConditionModel.from_pretrained(WEIGHTS / model / "unet")
    unet.float().save_pretrained(runs.folder / stage / "final")


def _take_text(runs: Runs) -> bool:
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(WEIGHTS / "sprites" / part, runs.folder / "text" / "final" / part, dirs_exist_ok=True)
    return _embed_text(TextSettings(), runs)


def _embed_text(settings: TextSettings, runs: Runs) -> bool:
    """Embed all training captions, whatever the time; return whether no signal ended it."""
    place = runs.final("text")
    tokenizer = CLIPTokenizer.from_pretrained(place / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(place / "text_encoder")
    stop = runs.limit.signalled
    return embed_captions(encoder, tokenizer, settings.num_variants, runs.captions_file, stop)
