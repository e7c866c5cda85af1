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
from longtake.models import WEIGHTS
from longtake.train.fit.runs import Runs
from longtake.train.fit.settings import FitSettings
from longtake.train.sprites.assemble import (
    assemble,
    assemble_sibling,
    assemble_transformer,
    forget_places,
    pack,
    unpack,
)
from longtake.train.sprites.build import (
    AutoencoderKL,
    SpriteSizes,
    TransformerSizes,
    UNet3DConditionModel,
    WanTransformer3DModel,
    build_scheduler,
    build_text_encoder,
    build_transformer,
    build_unet,
    build_vae,
    rebuilt_unet,
)
from longtake.train.sprites.cache import CacheSettings, LatentClips, embed_captions, encode_worlds
from longtake.train.sprites.denoiser import DenoiserSettings
from longtake.train.sprites.text import TextSettings, TextTask, end_of_text, train_tokenizer
from longtake.train.sprites.transformer import TransformerSettings, TransformerTask
from longtake.train.sprites.unet import GuidedTask, UnetTask
from longtake.train.sprites.vae import VaeSettings, VaeTask

BASE = "begun-with"
"""Folder of the denoiser that a folder of runs began with."""


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
    tokenizer = train_tokenizer(grammar_corpus(), settings.max_tokens)
    encoder = build_text_encoder(sizes, len(tokenizer), settings.max_tokens, end_of_text(tokenizer))
    done = runs.fit("text", TextTask(runs.moved(encoder), tokenizer, settings), loop)
    _embed_text(settings, runs)
    return done


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
    clips = LatentClips(runs.folder / ("clips" if settings.num_frames > 1 else "pictures"), runs.captions, sizes.cell)
    beside = LatentClips(runs.folder / "pictures", runs.captions, sizes.cell) if settings.pictures else None
    task = UnetTask(runs.moved(unet), build_scheduler(sizes.predicts), vae, clips, settings, beside)
    return runs.fit(name, task, loop)


def train_guided(
    sizes: SpriteSizes, settings: DenoiserSettings, loop: FitSettings, name: str, start: str, runs: Runs
) -> bool:
    """Train what stage `start` left to say in one branch what it says with guidance, on the clips of `switches`.

    Where the runs began with weights that had learnt some of it, `begun-with`, those go on; the teacher is the same.
    """
    torch.manual_seed(loop.seed)
    begin = BASE if (runs.folder / BASE).exists() else start
    unet, teacher = (runs.moved(UNet3DConditionModel.from_pretrained(runs.final(stage))) for stage in (begin, start))
    clips = LatentClips(runs.folder / "switches", runs.captions, sizes.cell)
    task = GuidedTask(teacher, unet, build_scheduler(sizes.predicts), trained_vae(runs), clips, settings)
    return runs.fit(name, task, loop)


def train_transformer(
    sizes: TransformerSizes, settings: TransformerSettings, loop: FitSettings, name: str, start: str | None, runs: Runs
) -> bool:
    """Train the transformer from what stage `start` left, on pictures or clips.

    None: from the base that the runs began with, if they did, else from scratch.
    """
    torch.manual_seed(loop.seed)
    vae = trained_vae(runs)
    start = start or (BASE if (runs.folder / BASE).exists() else None)
    network = WanTransformer3DModel.from_pretrained(runs.final(start)) if start else build_transformer(sizes)
    clips = LatentClips(runs.folder / ("clips" if settings.num_frames > 1 else "pictures"), runs.captions)
    return runs.fit(name, TransformerTask(runs.moved(network), vae, clips, settings), loop)


def write_transformer(guidance: float, shift: float, stage: str, runs: Runs) -> bool:
    """Assemble what `stage` left, with the better decoder if there is one, in `weights/next-sprites`."""
    folder = runs.folder / "weights" / "next-sprites"
    extras = _extras(guidance)
    assemble_transformer(runs.final("text"), _best_vae(runs), runs.final(stage), shift, extras, folder)
    return True


def write_sharp(sizes: SpriteSizes, guidance: float, stage: str, runs: Runs) -> bool:
    """Assemble what `stage` left, a UNet, with the better decoder if there is one, in `weights/sprites-sharp`."""
    folder = runs.folder / "weights" / "sprites-sharp"
    assemble(runs.final("text"), _best_vae(runs), runs.final(stage), _extras(guidance), folder, sizes.predicts)
    return True


def write_base(stage: str, runs: Runs) -> bool:
    """Write what `stage` left into the folder `base`, in few bytes, for `take_base`; the texts' part is not in it."""
    base, network = runs.folder / "base", WanTransformer3DModel.from_pretrained(runs.final(stage))
    AutoencoderKL.from_pretrained(runs.final("vae")).half().save_pretrained(base / "vae")
    network.save_config(base / "transformer")
    pack(network.state_dict(), base / "transformer" / "packed.safetensors")
    forget_places(base)
    return True


def take_base(base: Path, stage: str, runs: Runs) -> None:
    """Fill a new folder of runs with what `write_base` wrote, as if the stages that made it had just ended.

    `stage`, which would begin from scratch, begins with its transformer, and if it is left out, that is what it left.
    Tokenizer and text encoder are those of the package's model. The latents of pictures and clips are still to be made.
    """
    config: Any = WanTransformer3DModel.load_config(base / "transformer")
    network: Any = WanTransformer3DModel.from_config(config)
    network.load_state_dict(unpack(base / "transformer" / "packed.safetensors"))
    for name in (BASE, stage):
        network.save_pretrained(runs.folder / name / "final")
    AutoencoderKL.from_pretrained(base / "vae").float().save_pretrained(runs.folder / "vae" / "final")
    _take_text(runs)


def take_sprites(runs: Runs) -> bool:
    """Fill the stages `sprites` and `text` with the UNet and the text encoder of the package, which belong together."""
    _take_unet("sprites", "sprites", runs)
    _take_text(runs)
    return True


def take_package(runs: Runs) -> bool:
    """Fill a new folder with what the package holds: stage `fast` goes on with the weights of `sprites-fast` there."""
    _take_unet("sprites", "further", runs)
    _take_unet("sprites-fast", BASE, runs)
    AutoencoderKL.from_pretrained(WEIGHTS / "sprites" / "vae").float().save_pretrained(runs.folder / "vae" / "final")
    _take_text(runs)
    return True


def write_weights(guidance: float, runs: Runs, weights: Path) -> None:
    """Assemble the three models in `weights` from finished stages; the better decoder if there is one.

    `sprites-uniform` and `sprites-fast` hold only their denoisers; the loader takes everything else from `sprites`.
    """
    complete, extras = weights / "sprites", _extras(guidance)
    assemble(runs.final("text"), _best_vae(runs), runs.final("further"), extras, complete)
    assemble_sibling(runs.final("uniform"), {**extras, "clean_frames": False}, complete, weights / "sprites-uniform")
    assemble_sibling(runs.final("fast"), {**extras, "learnt_guidance": guidance}, complete, weights / "sprites-fast")


def trained_vae(runs: Runs) -> AutoencoderKL:
    """Return the picture autoencoder that all later stages take."""
    return runs.moved(AutoencoderKL.from_pretrained(runs.final("vae")))


def _best_vae(runs: Runs) -> Path:
    decoder = runs.folder / "decoder" / "final"
    return decoder if decoder.exists() else runs.final("vae")


def _extras(guidance: float) -> dict[str, Any]:
    told = {"guidance": guidance, "clean_frames": True, "vocabulary": VOCABULARY}
    return {**told, "num_frames": 16, "fps": FPS}


def _take_unet(model: str, stage: str, runs: Runs) -> None:
    unet: Any = UNet3DConditionModel.from_pretrained(WEIGHTS / model / "unet")
    unet.float().save_pretrained(runs.folder / stage / "final")


def _take_text(runs: Runs) -> None:
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(WEIGHTS / "sprites" / part, runs.folder / "text" / "final" / part, dirs_exist_ok=True)
    _embed_text(TextSettings(), runs)


def _embed_text(settings: TextSettings, runs: Runs) -> None:
    place = runs.final("text")
    tokenizer = CLIPTokenizer.from_pretrained(place / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(place / "text_encoder")
    embed_captions(encoder, tokenizer, settings.num_variants, runs.captions_file)
