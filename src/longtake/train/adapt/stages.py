"""A LoRA for a model of any family that takes a noise level a frame, from videos with captions to a file for --lora.

The network is called as samplers call it, through `VideoModel.denoise`, with what is learnt beside its layers; its own
weights stay as they are. Called in all processes of a job; the first one writes and speaks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from longtake.arrays import FrameIndex, FrameLevels, Latents
from longtake.data.episodes import Episodes
from longtake.errors import InputError
from longtake.model import Condition, VideoModel
from longtake.models.hooks import learning
from longtake.models.hub.loading import DENOISERS
from longtake.models.hub.lora import LoraLayers, layers_in_use
from longtake.models.image_model import ImageModel
from longtake.request import Guidance
from longtake.samplers.step import Windows, ddim, free
from longtake.train.adapt.settings import AdaptSettings
from longtake.train.fit.job import Job, num_weights, steps_in_words
from longtake.train.fit.latents import Share, Stop, read_latents, write_latents
from longtake.train.fit.levels import LEAST_SIGMA, NUM_TIMESTEPS, LevelMixture, sample_levels
from longtake.train.fit.settings import FitSettings
from longtake.train.fit.task import Scalars, Task, cpu_attention, sheet

NUM_SHOWN = 4
"""Clips that are made on the way, and frames of each that are shown."""
_TEXTS_AT_ONCE = 16
MIXED = LevelMixture(uniform=0.4, independent=0.05, diagonal=0.35, past=0.1, ends=0.05, known=0.05)
"""What samplers meet: one level a clip, FIFO's queues, and finished frames among those to be made."""
NOISY = LevelMixture(uniform=0.5, independent=0.1, diagonal=0.4)
"""The same for a model that was not shown finished frames: what it says with them is not worth learning."""


def adapt_stage(model: VideoModel, settings: AdaptSettings, loop: FitSettings, episodes: Episodes, job: Job) -> bool:
    """Encode all clips into `latents/`, and train a LoRA on them; `final/` then is a folder for --lora.

    Returns whether it is finished. Raises InputError for recordings of another size than the model's.
    """
    torch.manual_seed(loop.seed)
    layers = LoraLayers(_used_layers(model), settings.rank)
    guidance = model.spec.guidance if settings.guidance is None else settings.guidance
    plan = f"LoRA of {num_weights(layers):,} weights, rank {settings.rank}, for {len(layers.names)} layers of "
    plan += f"{model.spec.name}; recipe {settings.recipe}"
    plan += f", guidance {guidance:g}" if settings.recipe == "guidance" else ""
    plan += "; " + steps_in_words(loop.num_steps, settings.batch_size, loop.parts)
    with job.begun("adapt", plan, weights=num_weights(layers)):
        told = {"model": model.digest}
        latents = job.encoded(told, lambda folder, share: encode_clips(model, episodes, folder, job.limit, share))
        if latents is None:
            return False
        clips = CaptionedClips(latents, episodes, model)
        return job.fit(AdaptTask(model, layers, clips, settings, guidance), loop)


def encode_clips(model: VideoModel, episodes: Episodes, folder: Path, stop: Stop, share: Share) -> bool:
    """Encode every recording into `folder`, a file each, clip after clip of the model's length, float16.

    Returns whether the whole share is there; `stop(clip)` is asked before every clip.
    """
    spec = model.spec
    pixels = spec.timing.pixel_frames(spec.num_frames)

    def encode(number: int) -> dict[str, Tensor] | None:
        parts = []
        for place, clip in enumerate(episodes.footage.clips(number, pixels)):
            if stop(place):
                return None
            if clip.shape[1:3] != (spec.height, spec.width):
                raise InputError(
                    f"{episodes.footage.recordings[number].name} has frames of {clip.shape[2]}x{clip.shape[1]}, and "
                    f"{spec.name} makes {spec.width}x{spec.height}; scale the videos, or give a --size"
                )
            frames = torch.from_numpy(clip).permute(0, 3, 1, 2).float() / 255
            parts.append(model.encode_frames(frames).half().cpu())
        return {"latents": torch.stack(parts)}

    names = (recording.name for recording in episodes.footage.recordings)
    return write_latents(folder, ((name, partial(encode, number)) for number, name in enumerate(names)), share=share)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Random clips, and what of the texts each of their frames shows."""

    latents: Latents
    windows: Windows


class CaptionedClips:
    """The clips of `encode_clips` with their captions, in memory."""

    def __init__(self, folder: Path, episodes: Episodes, model: VideoModel) -> None:
        """Read all latents, and let the model read every distinct caption once."""
        spec = model.spec
        # One level more than steps that anybody takes: as finely as the network was told of them.
        self.schedule = model.schedule(spec.num_levels or NUM_TIMESTEPS)
        texts: dict[str, int] = {"": 0}
        latents, rows = [], []
        # What a latent frame shows is its last frame of the video; where a window has one prompt, it is the first one.
        places = [spec.timing.pixel_frames(frame + 1) - 1 for frame in range(spec.num_frames)]
        places = places if spec.prompts == "frame" else [0] * len(places)
        length = spec.timing.pixel_frames(spec.num_frames)
        for recording, captions in zip(episodes.footage.recordings, episodes.captions, strict=True):
            clips = read_latents(folder, ("latents",), escape(recording.name))["latents"]
            for clip in range(len(clips)):
                shown = [captions.at(clip * length + place) for place in places]
                rows.append(torch.tensor([texts.setdefault(text, len(texts)) for text in shown]))
            latents.append(clips)
        self.latents, self.rows, self.texts = torch.cat(latents), torch.stack(rows), list(texts)
        self.table = _read_texts(model, self.texts)
        self.device = model.device

    def draw(self, num_clips: int, drop_text: float, generator: Generator) -> Drawn:
        """Return random clips, in a share `drop_text` of which no text is told."""
        chosen = torch.randint(len(self.latents), (num_clips,), generator=generator)
        dropped = torch.rand(num_clips, generator=generator) < drop_text
        rows = self.rows[chosen] * ~dropped[:, None]
        return Drawn(latents=self.latents[chosen].float().to(self.device), windows=self._windows(rows))

    def shown(self, count: int) -> Windows:
        """Return windows of the texts of some clips, the same every time."""
        places = torch.arange(count) * 367 % len(self.rows)
        return self._windows(self.rows[places, :1].expand(-1, self.rows.shape[1]))

    def _windows(self, rows: FrameIndex) -> Windows:
        """Return windows of these rows of all texts, with a table of them alone, after the empty one."""
        used, index = torch.cat([torch.zeros(1, dtype=torch.long), rows.flatten()]).unique(return_inverse=True)
        table = {name: tensor[used].to(self.device) for name, tensor in self.table.items()}
        return Windows(
            schedule=self.schedule, condition=Condition(table), prompt_index=index[1:].view(rows.shape).to(self.device)
        )


class AdaptTask(Task):
    """Say what the network says with guidance, or what clips are, by the layers that are learnt beside its own."""

    def __init__(
        self,
        model: VideoModel,
        layers: LoraLayers,
        clips: CaptionedClips,
        settings: AdaptSettings,
        guidance: Guidance,
    ) -> None:
        self.model, self.layers, self.clips, self.settings, self.guidance = model, layers, clips, settings, guidance
        self.is_taught = settings.recipe == "guidance"
        self.levels = MIXED if model.spec.clean_frames or not self.is_taught else NOISY
        self.says_noise = isinstance(model, ImageModel) and model.prediction == "epsilon"

    def module(self) -> nn.Module:
        """The LoRA."""
        return self.layers

    def loss(self, generator: Generator) -> tuple[Tensor, Scalars]:
        """Mean squared error of x0 over the frames that are not clean, counted as that of what the network says: of
        noise, else of v or of a flow."""
        settings, schedule = self.settings, self.clips.schedule
        drawn = self.clips.draw(settings.batch_size, 0.0 if self.is_taught else settings.drop_text, generator)
        num_frames = drawn.latents.shape[2]
        timesteps, clean = sample_levels(self.levels, settings.batch_size, num_frames, generator)
        levels = (1 + timesteps * schedule.num_levels // NUM_TIMESTEPS) * ~clean
        noise = torch.randn(drawn.latents.shape, generator=generator).to(drawn.latents)
        x = schedule.now(levels[:, None, :, None, None]).mix(drawn.latents, noise)
        with cpu_attention(self.model.device):
            wanted = self._taught(x, levels, drawn.windows) if self.is_taught else drawn.latents
            with learning(), self.layers.added():
                x0 = free(self.model, drawn.windows, 1.0)(x, levels)
        now = schedule.now(levels)
        weight = (now.alpha if self.says_noise else torch.ones_like(now.alpha)) / now.sigma.clamp(min=LEAST_SIGMA)
        error = (x0 - wanted).square().mean(dim=(1, 3, 4)) * weight.square().to(x)
        counts = ~clean.to(x.device)
        return (error * counts).sum() / counts.sum(), {}

    def sample(self) -> Float[Tensor, "3 height width"]:
        """Some frames of clips, a row each, of fixed captions from fixed noise."""
        count, steps = NUM_SHOWN, self.settings.sample_steps
        windows = self.clips.shown(count)
        windows = Windows(
            schedule=self.model.schedule(steps), condition=windows.condition, prompt_index=windows.prompt_index
        )
        noise = torch.randn((count, *self.clips.latents.shape[1:]), generator=Generator().manual_seed(0))
        with self.layers.added():
            denoiser = free(self.model, windows, 1.0 if self.is_taught else self.guidance)
            made = ddim(denoiser, noise.to(self.model.device), windows.schedule)
        frames = [self.model.decode(clip, None, last=True)[0].cpu() for clip in made]
        places = torch.linspace(0, len(frames[0]) - 1, NUM_SHOWN).long()
        return sheet(torch.stack([clip[places] for clip in frames]))

    def save(self, folder: Path) -> None:
        """Write the LoRA."""
        told: dict[str, Any] = {"base": self.model.digest, "recipe": self.settings.recipe}
        self.layers.save(folder, told | ({"guidance": self.guidance} if self.is_taught else {}))

    def _taught(self, x: Latents, levels: FrameLevels, windows: Windows) -> Latents:
        """Return what the network says with guidance; a copy, since gradients take nothing from inference mode."""
        return free(self.model, windows, self.guidance)(x, levels).clone()


def _used_layers(model: VideoModel) -> Any:
    """Return the layers that calls of the network run through, at both ends of the noise."""
    pipeline: Any = model
    networks = {name: part for name in DENOISERS if (part := getattr(pipeline.pipeline, name, None)) is not None}
    spec = model.spec
    schedule = model.schedule(spec.num_levels or NUM_TIMESTEPS)
    rows = torch.zeros(1, spec.num_frames, dtype=torch.long, device=model.device)
    windows = Windows(schedule=schedule, condition=Condition(_read_texts(model, [""])), prompt_index=rows)
    x = torch.zeros(1, *spec.latent_shape, device=model.device)

    def call() -> None:
        for level in (1, schedule.num_levels):
            free(model, windows, 1.0)(x, torch.full_like(rows, level))

    return layers_in_use(networks, call)


def _read_texts(model: VideoModel, texts: Sequence[str]) -> dict[str, Tensor]:
    """Return the model's rows of texts on the CPU, a few read at a time, the first of which is the empty one."""

    def parts() -> Iterator[dict[str, Tensor]]:
        for first in range(0, len(texts), _TEXTS_AT_ONCE):
            yield {
                name: rows.clone().cpu()
                for name, rows in model.encode(texts[first : first + _TEXTS_AT_ONCE]).rows.items()
            }

    read = list(parts())
    return {name: torch.cat([part[name] for part in read]) for name in read[0]}
