"""Training a denoiser of the embedded models, of either kind: pictures, then clips with a noise level per frame."""

from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from longtake.samplers.step import ddim
from longtake.schedule import Prediction, Schedule, to_x0
from longtake.train.fit.levels import Clean, LevelMixture, Timesteps, sample_levels
from longtake.train.fit.settings import DiffusionLoss
from longtake.train.fit.task import Scalars, Task
from longtake.train.sprites.autoencode import decoded_sheet
from longtake.train.sprites.build import AutoencoderKL
from longtake.train.sprites.cache import Drawn, LatentClips

NUM_SHOWN = 48
"""Pictures that are made on the way; of clips an eighth."""


@dataclass(frozen=True, kw_only=True)
class DenoiserSettings(DiffusionLoss):
    """Batches and loss of a denoiser."""

    num_frames: int
    """Frames per clip; 1 trains pictures, without layers over time."""
    levels: LevelMixture = field(default_factory=LevelMixture)
    """Noise levels of the frames."""
    taught: float = 1.0
    """Guidance of the teacher that the network learns to say in one branch, where a stage has one."""
    known_noise: float = 0.0
    """Clean frames get noise of a strength between none and this, as they will be made by the network itself."""
    pictures: int = 0
    """Single pictures that a step sees beside its clips, whose frames need not tell it by themselves what a thing looks
    like (Ho et al. 2022, arXiv:2204.03458)."""


class DenoiserTask(Task):
    """Predict from noisy latents and a caption; the network is told a level for every frame."""

    def __init__(
        self,
        network: Any,
        vae: AutoencoderKL,
        clips: LatentClips,
        settings: DenoiserSettings,
        schedule: Schedule,
        prediction: Prediction,
        pictures: LatentClips | None = None,
    ) -> None:
        """`network` is trained in place; the rest stays as it is. `schedule` is that of the pictures on the way,
        `pictures` are those beside the clips."""
        self.network, self.vae, self.clips, self.settings = network, vae, clips, settings
        self.pictures = pictures
        self.schedule = schedule
        self.prediction: Prediction = prediction
        self.shown, self.shown_clean = self.to_show()

    @abstractmethod
    def noisy(
        self, latents: Tensor, noise: Tensor, timesteps: Timesteps, clean: Clean
    ) -> tuple[Tensor, Tensor, Float[Tensor, "clips frames"]]:
        """Return latents with noise, what the network should say of them, and which level it is told of each frame."""

    def weight(self, told: Tensor) -> Tensor:
        """Return how much the error of a frame counts that is told so."""
        return torch.ones_like(told)

    @abstractmethod
    def told(self, timestep: Tensor) -> Tensor:
        """Return what the network is told at entries of the schedule."""

    @abstractmethod
    def predict(self, x: Tensor, told: Tensor, texts: Tensor, stride: Tensor) -> Tensor:
        """Return the network's output, float32; every frame sees its own text."""

    def guided(self, x: Tensor, told: Tensor, clean: Clean, drawn: Drawn) -> Tensor | float:
        """Return what the network should say beyond what is in the latents."""
        return 0.0

    def draw_levels(self, levels: LevelMixture, drawn: Drawn, generator: Generator) -> tuple[Timesteps, Clean]:
        """Return a noise level for every frame of clips, and which are clean."""
        num_clips, _, num_frames = drawn.latents.shape[:3]
        return sample_levels(levels, num_clips, num_frames, generator)

    def to_show(self) -> tuple[Drawn, Clean]:
        """Return what the pictures on the way are told and show, and which frames of it are given."""
        num_frames = self.settings.num_frames
        places = torch.arange(NUM_SHOWN if num_frames == 1 else NUM_SHOWN // 8) * 367 + 7
        texts = self.clips.table[places % len(self.clips.table), 0].float()[:, None].repeat(1, num_frames, 1, 1)
        channels, *sides = self.clips.latents.shape[2:]
        latents = torch.zeros(len(texts), channels, num_frames, *sides)
        shown = Drawn(latents=latents, texts=texts, plain=texts, stride=torch.ones(len(texts), dtype=torch.long))
        return shown, torch.zeros(texts.shape[:2], dtype=torch.bool)

    def module(self) -> nn.Module:
        """The denoiser."""
        return self.network

    def loss(self, generator: Generator) -> tuple[Tensor, Scalars]:
        """Mean squared error of the prediction over the frames that are not clean; that of pictures is added."""
        settings = self.settings
        error = self._error(self.clips, settings.batch_size, settings.num_frames, settings.levels, generator)
        if self.pictures is None:
            return error, {}
        alone = self._error(self.pictures, settings.pictures, 1, LevelMixture(), generator)
        return error + alone, {"clips": float(error.detach()), "pictures": float(alone.detach())}

    def _error(
        self, clips: LatentClips, count: int, num_frames: int, levels: LevelMixture, generator: Generator
    ) -> Tensor:
        drawn = clips.draw(count, num_frames, self.settings.drop_text, generator)
        timesteps, clean = self.draw_levels(levels, drawn, generator)
        noise = torch.randn(drawn.latents.shape, generator=generator)
        device = self.network.device
        drawn = drawn.to(device)
        noise, timesteps, clean = (each.to(device) for each in (noise, timesteps, clean))
        x, wanted, told = self.noisy(drawn.latents, noise, timesteps, clean)
        if self.settings.known_noise:
            strength = self.settings.known_noise * torch.rand(count, 1, 1, 1, 1, generator=generator).to(device)
            x = torch.where(clean[:, None, :, None, None], x + strength * noise, x)
        wanted = wanted + self.guided(x, told, clean, drawn)
        said = self.predict(x, told, drawn.texts, drawn.stride)
        error = (said - wanted).square().mean(dim=(1, 3, 4)) * self.weight(told)
        return (error * ~clean).sum() / (~clean).sum()

    def sample(self) -> Float[Tensor, "3 height width"]:
        """Pictures, or every second frame of clips (a row each), of fixed captions from fixed noise."""
        return decoded_sheet(self.vae, self._denoised().transpose(1, 2))

    def save(self, folder: Path) -> None:
        """Write the denoiser."""
        self.network.save_pretrained(folder)

    def _denoised(self) -> Float[Tensor, "clips channels frames height width"]:
        """Steps of DDIM with guidance, one level for all frames but those that are given."""
        device, schedule = self.network.device, self.schedule
        shown, clean = self.shown.to(device), self.shown_clean.to(device)
        given = clean[:, None, :, None, None]
        texts = torch.cat([shown.texts, self.clips.empty.float().to(device).expand_as(shown.texts)])

        def denoiser(x: Tensor, levels: Tensor) -> Tensor:
            told = self.told(schedule.timestep[levels.cpu()]).to(device)
            told = torch.where(clean, torch.zeros_like(told), told).repeat(2, 1)
            x = torch.where(given, shown.latents, x)
            predicted, without = self.predict(x.repeat(2, 1, 1, 1, 1), told, texts, shown.stride.repeat(2)).chunk(2)
            predicted = without + self.settings.guidance * (predicted - without)
            return to_x0(predicted, x, schedule.now(levels[:, None, :, None, None]), self.prediction)

        noise = torch.randn(shown.latents.shape, generator=torch.Generator().manual_seed(0))
        return torch.where(given, shown.latents, ddim(denoiser, noise.to(device), schedule))
