"""Training the denoiser of the embedded model: pictures first, then clips with a noise level per frame."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from longtake.models.hooks import GivenEmbedding, swapped
from longtake.models.schedules import discrete_schedule
from longtake.samplers.step import ddim
from longtake.schedule import to_x0
from longtake.train.fit.cpu_attention import cpu_attention
from longtake.train.fit.task import Scalars, Task
from longtake.train.sprites.autoencode import decoded_sheet
from longtake.train.sprites.build import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
from longtake.train.sprites.cache import LatentClips
from longtake.train.sprites.layers import without_time
from longtake.train.sprites.levels import Clean, LevelMixture, Timesteps, sample_levels


@dataclass(frozen=True, kw_only=True)
class DenoiserSettings:
    """Batches and loss of the denoiser."""

    batch_size: int
    """Clips per step."""
    num_frames: int
    """Frames per clip; 1 trains pictures and skips the layers over time."""
    levels: LevelMixture = field(default_factory=LevelMixture)
    """Noise levels of the frames."""
    drop_text: float = 0.1
    """Share of clips that are trained with the empty prompt, for guidance."""
    sample_steps: int = 12
    """Steps of the pictures made on the way."""
    guidance: float = 3.0
    """Guidance scale of the pictures made on the way."""


class DenoiserTask(Task):
    """Predict v = alpha eps - sigma x0 from noisy latents and a caption (Salimans and Ho, arXiv:2202.00512)."""

    def __init__(
        self,
        unet: UNet3DConditionModel,
        scheduler: DDIMScheduler,
        vae: AutoencoderKL,
        clips: LatentClips,
        settings: DenoiserSettings,
    ) -> None:
        """`unet` is trained in place; the rest stays as it is.

        The network stays in eval mode: dropout in the layers over time would only slow so small a network down.
        """
        self.unet = unet.eval()
        self.vae = vae
        self.clips = clips
        self.settings = settings
        self.alphas_cumprod = scheduler.alphas_cumprod.to(unet.device)
        num_shots, num_rows = len(clips.table), 4 if settings.num_frames > 1 else 48
        self.shown = clips.table[(torch.arange(num_rows) * 367 + 7) % num_shots, 0].float()

    def module(self) -> nn.Module:
        """The denoiser."""
        return self.unet

    def loss(self, generator: Generator) -> tuple[Tensor, Scalars]:
        """Mean squared error of v over the frames that are not clean."""
        settings = self.settings
        drawn = self.clips.draw(settings.batch_size, settings.num_frames, settings.drop_text, generator)
        timesteps, clean = sample_levels(settings.levels, settings.batch_size, settings.num_frames, generator)
        noise = torch.randn(drawn.latents.shape, generator=generator)
        places = (drawn.latents, drawn.texts[:, 0], timesteps, clean, noise)
        latents, text, timesteps, clean, noise = (each.to(self.unet.device) for each in places)
        alpha, sigma = self._coefficients(timesteps, clean)
        predicted = self._predict(alpha * latents + sigma * noise, timesteps, text).float()
        error = (predicted - (alpha * noise - sigma * latents)).square().mean(dim=(1, 3, 4))
        return (error * ~clean).sum() / (~clean).sum(), {}

    def sample(self) -> Float[Tensor, "3 height width"]:
        """Pictures, or every second frame of clips (a row each), of fixed captions from fixed noise."""
        return decoded_sheet(self.vae, self._denoised_frames())

    def save(self, folder: Path) -> None:
        """Write the denoiser."""
        self.unet.save_pretrained(folder)

    def _denoised_frames(self) -> Float[Tensor, "clips frames channels height width"]:
        """DDIM with guidance."""
        text = torch.cat([self.shown, self.clips.empty.float().expand_as(self.shown)])
        shape = (len(self.shown), self.clips.latents.shape[2], self.settings.num_frames, *self.clips.latents.shape[3:])
        text = text.to(self.unet.device)
        schedule = discrete_schedule(self.alphas_cumprod.cpu(), self.settings.sample_steps, "trailing", "v_prediction")

        def denoiser(x: Tensor, levels: Tensor) -> Tensor:
            timesteps = schedule.timestep[torch.cat([levels, levels]).cpu()].to(x.device)
            v, v_empty = self._predict(torch.cat([x, x]), timesteps, text).float().chunk(2)
            v = v_empty + self.settings.guidance * (v - v_empty)
            return to_x0(v, x, schedule.now(levels[:, None, :, None, None]), "v_prediction")

        x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(self.unet.device)
        return ddim(denoiser, x, schedule).transpose(1, 2)

    def _coefficients(self, timesteps: Timesteps, clean: Clean) -> tuple[Tensor, Tensor]:
        """Alpha and sigma per frame, shaped to multiply latents."""
        bar = torch.where(clean, 1.0, self.alphas_cumprod[timesteps])[:, None, :, None, None]
        return bar.sqrt(), (1 - bar).sqrt()

    def _predict(self, x: Tensor, timesteps: Timesteps, text: Tensor) -> Tensor:
        """The network's output."""
        unet = self.unet
        embedding = unet.time_embedding(unet.time_proj(timesteps.flatten()))
        pictures = without_time(unet) if self.settings.num_frames == 1 else nullcontext()
        with swapped(unet, "time_embedding", GivenEmbedding(embedding)), pictures, cpu_attention(x.device):
            return unet(x, timesteps[:, 0], text, return_dict=False)[0]
