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
from longtake.train.sprites.cache import LatentClips

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
        places = torch.arange(NUM_SHOWN if settings.num_frames == 1 else NUM_SHOWN // 8) * 367 + 7
        self.shown = clips.table[places % len(clips.table), 0].float()

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
    def predict(self, x: Tensor, told: Tensor, texts: Tensor, later: Tensor | None) -> Tensor:
        """Return the network's output, float32. Frames that are `later` show what the second of a clip's texts says."""

    def guided(self, x: Tensor, told: Tensor, texts: Tensor, later: Tensor) -> Tensor | float:
        """Return what the network should say beyond what is in the latents."""
        return 0.0

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
        timesteps, clean = sample_levels(levels, count, num_frames, generator)
        noise = torch.randn(drawn.latents.shape, generator=generator)
        places = (drawn.latents, noise, timesteps, clean, drawn.texts, drawn.plain, drawn.later)
        latents, noise, timesteps, clean, texts, plain, later = (each.to(self.network.device) for each in places)
        x, wanted, told = self.noisy(latents, noise, timesteps, clean)
        wanted = wanted + self.guided(x, told, plain, later)
        error = (self.predict(x, told, texts, later) - wanted).square().mean(dim=(1, 3, 4)) * self.weight(told)
        return (error * ~clean).sum() / (~clean).sum()

    def sample(self) -> Float[Tensor, "3 height width"]:
        """Pictures, or every second frame of clips (a row each), of fixed captions from fixed noise."""
        return decoded_sheet(self.vae, self._denoised().transpose(1, 2))

    def save(self, folder: Path) -> None:
        """Write the denoiser."""
        self.network.save_pretrained(folder)

    def _denoised(self) -> Float[Tensor, "clips channels frames height width"]:
        """Steps of DDIM with guidance, one level for all frames."""
        device, schedule = self.network.device, self.schedule
        texts = torch.cat([self.shown, self.clips.empty.float().expand_as(self.shown)])[:, None].to(device)

        def denoiser(x: Tensor, levels: Tensor) -> Tensor:
            told = self.told(schedule.timestep[torch.cat([levels, levels]).cpu()]).to(device)
            predicted, without_text = self.predict(torch.cat([x, x]), told, texts, None).chunk(2)
            predicted = without_text + self.settings.guidance * (predicted - without_text)
            return to_x0(predicted, x, schedule.now(levels[:, None, :, None, None]), self.prediction)

        channels, *sides = self.clips.latents.shape[2:]
        shape = (len(self.shown), channels, self.settings.num_frames, *sides)
        return ddim(denoiser, torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device), schedule)
