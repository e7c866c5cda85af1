"""NUWA-XL's training on episodes of one's own, from recordings to a model folder.

Called in all processes of a job; the first one writes and speaks.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shutil import copyfile
from typing import Any

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPTextModel

from longtake.data.episodes import Episodes
from longtake.models import FAMILIES
from longtake.models.hub.configs import read_extras, stem
from longtake.models.hub.files import digest, weight_files
from longtake.models.hub.load import image_decoder, noise_levels, text_encoder, tokenizer
from longtake.models.image_model import text_states
from longtake.models.nuwa_xl.load import count_flops, from_image_unet, from_video_unet, load_unet, save_index
from longtake.models.nuwa_xl.mtd import MaskTemporalUnet
from longtake.models.nuwa_xl.spec import OVER_TIME, PIPELINE, MtdConfig
from longtake.models.nuwa_xl.t_klvae import TemporalAutoencoder
from longtake.train.fit.job import Job, frame_rate, num_weights, steps_in_words
from longtake.train.fit.loop import fit
from longtake.train.nuwa_xl.data import EpisodeLatents, encode_episodes
from longtake.train.nuwa_xl.settings import NuwaXlRun
from longtake.train.nuwa_xl.start import VIDEO, Start, closed_vocabulary
from longtake.train.nuwa_xl.unet import MtdTask
from longtake.train.nuwa_xl.vae import OverTimeTask

_TEXTS_AT_ONCE = 64
_SHARED = ("vae", "text_encoder", "tokenizer", "scheduler")


def nuwa_xl_stage(run: NuwaXlRun, episodes: Episodes, job: Job) -> bool:
    """Encode all frames into `latents/`, and train mask temporal diffusion on them.

    Returns whether it is finished: `final/` then is a whole model, which nothing else is needed for.
    """
    torch.manual_seed(run.fit.seed)
    network = start_network(run.start, run.network, run.size // run.start.reduction).to(job.device)
    words = Words(run.start, job.device)
    texts = sorted({text for captions in episodes.captions for text in captions.texts})
    with job.begun("nuwa-xl", _plan(run, network, job), weights=num_weights(network)):
        if job.world.rank == 0:
            print("\n".join(words.notes(texts)))
        parts = run.start.parts
        vae = image_decoder(parts["vae"], job.device, torch.float32)
        told = {"autoencoder": digest([parts["vae"]]), "size": run.size}
        latents = job.encoded(told, lambda folder, share: encode_episodes(vae, episodes, folder, job.limit, share))
        if latents is None:
            return False
        source = EpisodeLatents(latents, episodes, words.embed, run.network.strides)
        over_time = train_over_time(run, vae, source, episodes, job) if run.t_klvae_steps else None
        if run.t_klvae_steps and over_time is None:
            return False
        alphas_cumprod, prediction = noise_levels(parts["scheduler"])
        task = MtdTask(network, alphas_cumprod, vae, source, run.loss, prediction)
        extras = _extras(run, frame_rate(job.train), texts) | {"forward_flops": _flops(network, words)}

        def save(folder: Path) -> None:
            """Write a model with copies of all parts that it needs, so that it can be moved."""
            task.save(folder / "unet")
            for part in _SHARED:
                copy_part(parts[part], folder / part)
            if over_time:
                copy_part(over_time, folder / OVER_TIME)
            save_index(folder, extras)

        return job.fit(task, run.fit, save=save)


def train_over_time(
    run: NuwaXlRun, vae: AutoencoderKL, source: EpisodeLatents, episodes: Episodes, job: Job
) -> Path | None:
    """Train the layers over time of T-KLVAE's decoder in `t_klvae/`; return where they are, None if it was stopped."""
    network = TemporalAutoencoder(vae, run.network.frames).to(job.device)
    task, folder = OverTimeTask(network, source, episodes, run.loss.batch_size), job.folder / "t_klvae"
    done = fit(task, replace(run.fit, num_steps=run.t_klvae_steps), folder, job.limit, share=job.limit.share)
    return folder / "final" / OVER_TIME if done else None


def start_network(start: Start, config: MtdConfig, cells: int) -> MaskTemporalUnet:
    """Return the network to train, for latents of `cells` by `cells`: new where the start is no NUWA-XL model."""
    place = start.parts["unet"]
    if start.pipeline == PIPELINE:
        network = load_unet(place)
        network.config = config
    else:
        new = from_video_unet if start.pipeline == VIDEO.pipeline else from_image_unet
        network = new(place, config)
    network.image.register_to_config(sample_size=cells)
    return network.requires_grad_(True)


def copy_part(source: Path, target: Path) -> None:
    """Copy what of a part is read: its settings, its vocabulary, and the weights that would be loaded."""
    target.mkdir(parents=True)
    files = [file for file in source.iterdir() if file.suffix in (".json", ".txt")]
    if source.name in FAMILIES[PIPELINE].networks:
        files += weight_files(source, stem(source.name))
    for file in files:
        copyfile(file, target / file.name)


class Words:
    """The tokenizer and the text encoder to start from, as they are."""

    def __init__(self, start: Start, device: torch.device) -> None:
        self.tokenizer = tokenizer(start.parts["tokenizer"], "CLIPTokenizer")
        self.encoder = text_encoder(CLIPTextModel, start.parts["text_encoder"], torch.float32).to(device)

    @property
    def num_tokens(self) -> int:
        """How many tokens a text is cut or padded to."""
        return self.tokenizer.model_max_length

    def embed(self, texts: Sequence[str]) -> Float[Tensor, "texts tokens width"]:
        """Return what the encoder makes of texts."""
        parts = [texts[first : first + _TEXTS_AT_ONCE] for first in range(0, len(texts), _TEXTS_AT_ONCE)]
        return torch.cat([text_states(self.tokenizer, self.encoder, part).cpu() for part in parts])

    def notes(self, texts: Sequence[str]) -> list[str]:
        """Return, in words, how many captions there are, and how many of them are cut, or cut to the same."""
        lengths = [len(tokens) for tokens in self.tokenizer(list(texts), verbose=False).input_ids]
        cut = self.tokenizer(list(texts), truncation=True, max_length=self.num_tokens).input_ids
        num_read, num_cut = len(set(map(tuple, cut))), sum(length > self.num_tokens for length in lengths)
        line = f"captions: {len(texts):,} different ones"
        if num_cut:
            line += f"; {num_cut:,} are longer than the {self.num_tokens} tokens that the text encoder reads"
        if num_read < len(texts):
            line += f", after which only {num_read:,} differ: write shorter ones, or start from another model"
        return [line]


def _plan(run: NuwaXlRun, network: MaskTemporalUnet, job: Job) -> str:
    config, start = run.network, run.start
    span = config.strides[0] * (config.frames - 1) + 1
    num_spans = sum(recording.num_frames - span + 1 for recording in job.train.recordings)
    num_frames, cells = sum(recording.num_frames for recording in job.train.recordings), run.size // start.reduction
    cache = 2 * num_frames * cells**2 * network.known.first.in_channels
    told = ", ".join(map(str, config.strides))
    plan = f"UNet of {num_weights(network):,} weights from {start.folder.name}; clips of {config.frames}x{run.size}x"
    plan += f"{run.size}, frames {told} apart, in {num_spans:,} spans of {span:,} frames; latents: "
    return plan + f"{cache / 1e6:,.1f} MB; " + steps_in_words(run.fit.num_steps, run.loss.batch_size, run.fit.parts)


def _extras(run: NuwaXlRun, fps: float, texts: Sequence[str]) -> dict[str, Any]:
    """Return what the model's folder says of it."""
    extras: dict[str, Any] = {"fps": fps, "guidance": run.loss.guidance}
    if closed_vocabulary(run.start):
        extras["vocabulary"] = sorted(set(re.findall(r"[^\W_]+(?:['-][^\W_]+)*", " ".join(texts).lower())))
    if run.size == run.start.size:
        extras["decode_flops"] = read_extras(run.start.folder).get("decode_flops")
    return extras


def _flops(network: MaskTemporalUnet, words: Words) -> int:
    """Return the operations of one evaluation, without doing them."""
    image: Any = network.image
    with torch.device("meta"):
        twin = MaskTemporalUnet(type(image).from_config(image.config), network.config)
        return count_flops(twin, words.num_tokens)
