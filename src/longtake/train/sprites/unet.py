"""Training the denoiser of the embedded models, a UNet: pictures without its layers over time, then clips with them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from longtake.models.hooks import GivenEmbedding, RepeatedEmbedding, swapped
from longtake.models.schedules import discrete_schedule
from longtake.samplers.step import ddim
from longtake.schedule import Prediction, to_x0
from longtake.train.fit.levels import LEAST_SIGMA, Clean, LevelMixture, Timesteps, sample_levels
from longtake.train.fit.settings import DiffusionLoss
from longtake.train.fit.task import Scalars, Task, cpu_attention
from longtake.train.sprites.autoencode import decoded_sheet
from longtake.train.sprites.build import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
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
    pictures: int = 0
    """Single pictures that a step sees beside its clips, whose frames need not tell it by themselves what a thing looks
    like (Ho et al. 2022, arXiv:2204.03458)."""


class UnetTask(Task):
    """Predict v = alpha eps - sigma x0 from noisy latents and a caption (Salimans and Ho, arXiv:2202.00512), or x0.

    The errors of x0 count as much as those of v that they are, but for the lowest levels (Li and He, arXiv:2511.13720).
    """

    def __init__(
        self,
        unet: UNet3DConditionModel,
        scheduler: DDIMScheduler,
        vae: AutoencoderKL,
        clips: LatentClips,
        settings: DenoiserSettings,
        pictures: LatentClips | None = None,
    ) -> None:
        """`unet` is trained in place; the rest stays as it is. `pictures` are those beside the clips.

        The network stays in eval mode: dropout in the layers over time would only slow so small a network down.
        """
        config: Any = scheduler.config
        self.network: Any = unet.eval()
        self.vae, self.clips, self.settings, self.pictures = vae, clips, settings, pictures
        self.prediction: Prediction = config.prediction_type
        self.alphas_cumprod = scheduler.alphas_cumprod.to(unet.device)
        table = scheduler.alphas_cumprod
        self.schedule = discrete_schedule(table, settings.sample_steps, "trailing", self.prediction)
        places = torch.arange(NUM_SHOWN if settings.num_frames == 1 else NUM_SHOWN // 8) * 367 + 7
        self.shown = clips.table[places % len(clips.table), 0].float()[:, None].repeat(1, settings.num_frames, 1, 1)

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
        device = self.network.device
        drawn = drawn.to(device)
        noise, timesteps, clean = (each.to(device) for each in (noise, timesteps, clean))
        x, wanted, told = self.noisy(drawn.latents, noise, timesteps, clean)
        wanted = wanted + self.guided(x, told, drawn)
        said = self.said(self.network, x, told, drawn.texts)
        error = (said - wanted).square().mean(dim=(1, 3, 4)) * self.weight(told)
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
        texts = torch.cat([self.shown, self.clips.empty.float().expand_as(self.shown)]).to(device)

        def denoiser(x: Tensor, levels: Tensor) -> Tensor:
            told = schedule.timestep[levels.cpu()].to(device).repeat(2, 1)
            predicted, without = self.said(self.network, x.repeat(2, 1, 1, 1, 1), told, texts).chunk(2)
            predicted = without + self.settings.guidance * (predicted - without)
            return to_x0(predicted, x, schedule.now(levels[:, None, :, None, None]), self.prediction)

        channels, *sides = self.clips.latents.shape[2:]
        shape = (len(self.shown), channels, self.settings.num_frames, *sides)
        return ddim(denoiser, torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device), schedule)

    def noisy(
        self, latents: Tensor, noise: Tensor, timesteps: Timesteps, clean: Clean
    ) -> tuple[Tensor, Tensor, Timesteps]:
        """Return the mixture, what is predicted of it, and the timesteps."""
        bar = torch.where(clean, 1.0, self.alphas_cumprod[timesteps])[:, None, :, None, None]
        alpha, sigma = bar.sqrt(), (1 - bar).sqrt()
        v = alpha * noise - sigma * latents
        return alpha * latents + sigma * noise, latents if self.prediction == "sample" else v, timesteps

    def weight(self, told: Timesteps) -> Tensor:
        """Return 1 / sigma^2 of x0, whose errors are sigma times those of v."""
        if self.prediction != "sample":
            return torch.ones_like(told, dtype=torch.float32)
        return 1 / (1 - self.alphas_cumprod[told]).clamp(min=LEAST_SIGMA**2)

    def said(self, unet: Any, x: Tensor, told: Timesteps, texts: Tensor) -> Tensor:
        """Return v, or x0, of a network; every frame sees its own text."""
        text: Any = RepeatedEmbedding(texts.flatten(0, 1))
        embedding = unet.time_embedding(unet.time_proj(told.flatten()))
        pictures = without_time(unet) if self.settings.num_frames == 1 else nullcontext()
        with swapped(unet, "time_embedding", GivenEmbedding(embedding)), pictures, cpu_attention(x.device):
            return unet(x, told[:, 0], text, return_dict=False)[0].float()

    def guided(self, x: Tensor, told: Timesteps, drawn: Drawn) -> Tensor | float:
        """Return what the network should say beyond what is in the latents."""
        return 0.0


class GuidedTask(UnetTask):
    """Say in one branch what guidance would make of it, and learn from the clips all the same.

    Added to what the clips say is what guidance adds to a teacher's prediction, (w - 1) (v(text) - v(no text)), so that
    the mean of what is learnt is that of the clips, guided (compare Meng et al., arXiv:2210.03142, whose target is all
    the teacher's). The teacher reads canonical captions, which it knows best, whatever words the network reads.
    """

    def __init__(self, teacher: UNet3DConditionModel, *given: Any) -> None:
        """As `UnetTask`; `teacher` stays as it is, and its guidance is `taught`."""
        super().__init__(*given)
        self.teacher = teacher.eval().requires_grad_(False)

    def guided(self, x: Tensor, told: Timesteps, drawn: Drawn) -> Tensor:
        """Return (w - 1) (v(text) - v(no text)) of the teacher."""
        none = self.clips.empty.to(drawn.plain).expand_as(drawn.plain)
        noisy, levels = (torch.cat([each, each]) for each in (x, told))
        with torch.no_grad():
            said, without = self.said(self.teacher, noisy, levels, torch.cat([drawn.plain, none])).chunk(2)
        return (self.settings.taught - 1) * (said - without)


class _SameFrames(nn.Module):
    """Stands in for a convolution over time."""

    def forward(self, hidden_states: Tensor, num_frames: int) -> Tensor:
        return hidden_states


class _SameFramesTuple(nn.Module):
    """Stands in for an attention over time."""

    def forward(
        self, hidden_states: Tensor, num_frames: int, cross_attention_kwargs: None, return_dict: bool
    ) -> tuple[Tensor]:
        return (hidden_states,)


@contextmanager
def without_time(unet: UNet3DConditionModel) -> Iterator[None]:
    """Skip every layer over time inside this context; new networks give the same frames with and without."""
    with ExitStack() as stack:
        stack.enter_context(swapped(unet, "transformer_in", _SameFramesTuple()))
        for block in [*unet.down_blocks, unet.mid_block, *unet.up_blocks]:
            parts = {"temp_convs": _SameFrames, "temp_attentions": _SameFramesTuple}
            for name, layers in list(block.named_children()):
                if name in parts:
                    stack.enter_context(swapped(block, name, nn.ModuleList(parts[name]() for _ in layers)))
        yield
