"""Training PVDM's diffusion model on cached latents (Yu et al., CVPR 2023, arXiv 2302.07685, sec. 3.2 and 3.3)."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from longtake.models.pvdm.autoencoder import PvdmAutoencoder
from longtake.models.pvdm.load import save_network
from longtake.models.pvdm.model import NUM_TRAIN, alphas_cumprod, pvdm_schedule
from longtake.models.pvdm.unet import PvdmUnet
from longtake.sampler import bounded_clip
from longtake.samplers.step import ddim
from longtake.schedule import to_x0
from longtake.train.fit.task import Scalars, Task, cpu_attention, sheet
from longtake.train.pvdm.cache import LatentClips
from longtake.train.pvdm.settings import DiffusionSettings


@dataclass(frozen=True, kw_only=True)
class Captions:
    """What the recordings show, in the text encoder's states."""

    table: Float[Tensor, "captions variants tokens width"]
    empty: Float[Tensor, "tokens width"]
    """Of the empty prompt."""
    recording: Int[Tensor, "recordings"]
    """Caption of each recording."""

    def draw(
        self, recording: Int[Tensor, "clips"], drop: float, generator: Generator
    ) -> Float[Tensor, "clips tokens width"]:
        """Return a random paraphrase for each clip, and the empty prompt for a share `drop` of them."""
        variant = torch.randint(self.table.shape[1], recording.shape, generator=generator)
        dropped = torch.rand(recording.shape, generator=generator) < drop
        rows = self.table[self.recording[recording], variant]
        return torch.where(dropped[:, None, None], self.empty, rows).float()


class DiffusionTask(Task):
    """Predict the noise, or v, of noisy latents, with and without the clip before."""

    def __init__(
        self,
        unet: PvdmUnet,
        autoencoder: PvdmAutoencoder,
        clips: LatentClips,
        captions: Captions | None,
        settings: DiffusionSettings,
    ) -> None:
        """`unet` is trained in place, on its device, where the autoencoder is, too; `captions` where it reads text."""
        assert (captions is None) == (unet.config.text_width is None)
        self.unet, self.autoencoder, self.clips, self.captions = unet, autoencoder, clips, captions
        self.settings, self.device = settings, next(unet.parameters()).device
        bar = alphas_cumprod().float()
        self.alpha, self.sigma = bar.sqrt(), (1 - bar).sqrt()

    def module(self) -> nn.Module:
        """The UNet."""
        return self.unet

    def loss(self, generator: Generator) -> tuple[Tensor, Scalars]:
        """Mean squared error of the prediction."""
        settings = self.settings
        batch = self.clips.draw(settings.batch_size, settings.conditional, generator)
        text = None
        if self.captions is not None:
            text = self.captions.draw(batch.recording, settings.drop_text, generator)
        timestep = torch.randint(NUM_TRAIN, (settings.batch_size,), generator=generator)
        noise = torch.randn(batch.latents.shape, generator=generator)
        return self.error(batch.latents, batch.previous, text, timestep, noise), {}

    def error(
        self,
        latents: Float[Tensor, "clips channels positions"],
        previous: Float[Tensor, "clips channels positions"],
        text: Float[Tensor, "clips tokens width"] | None,
        timestep: Int[Tensor, "clips"],
        noise: Float[Tensor, "clips channels positions"],
    ) -> Float[Tensor, ""]:
        """Return the loss of clips at these timesteps, made noisy with this noise."""
        alpha, sigma = (each[timestep][:, None, None].to(self.device) for each in (self.alpha, self.sigma))
        latents, previous, noise = (each.to(self.device) for each in (latents, previous, noise))
        text = None if text is None else text.to(self.device)
        with cpu_attention(self.device, self.unet.recompute):
            predicted = self.unet(alpha * latents + sigma * noise, timestep.to(self.device), previous, text).float()
        wanted = noise if self.unet.config.prediction == "epsilon" else alpha * noise - sigma * latents
        return (predicted - wanted).square().mean()

    def held_out(self, latents: Float[Tensor, "clips channels positions"]) -> Scalars:
        """The loss of clips that follow nothing, with the same noise every time; no text."""
        generator = Generator().manual_seed(0)
        latents = latents.repeat(2, 1, 1)
        timestep = torch.linspace(0, NUM_TRAIN - 1, len(latents)).long()
        noise = torch.randn(latents.shape, generator=generator)
        return {"loss": float(self.error(latents, torch.zeros_like(latents), None, timestep, noise))}

    def sample(self) -> Float[Tensor, "3 height width"]:
        """Every second frame of six clips and of the clips that follow them, a row each."""
        generator = torch.Generator().manual_seed(0)
        text = None
        if self.captions is not None:
            recording = (torch.arange(6) * 367 + 7) % len(self.captions.recording)
            text = self.captions.draw(recording, 0.0, generator).to(self.device)
        first = self._sampled(torch.zeros(6, *self.clips.shape, device=self.device), text, generator)
        second = self._sampled(first, text, generator)
        frames = torch.cat([self.autoencoder.decode(part)[:, :, ::2] for part in (first, second)], dim=2).float()
        return sheet(frames.transpose(1, 2) / 2 + 0.5)

    def save(self, folder: Path) -> None:
        """Write `unet/`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_network(folder, self.unet.config, self.unet.state_dict())

    def _sampled(self, previous: Tensor, text: Tensor | None, generator: Generator) -> Tensor:
        """DDIM with guidance."""
        kind = self.unet.config.prediction
        schedule = pvdm_schedule(self.settings.sample_steps, prediction=kind)

        def denoiser(x: Tensor, levels: Tensor) -> Tensor:
            level = levels[:, 0].cpu()
            timestep = schedule.timestep[level].to(self.device)
            predicted = self.unet(x, timestep, previous, text).float()
            if text is not None and self.captions is not None:
                without = self.unet(x, timestep, previous, self.captions.empty.to(text).expand_as(text)).float()
                predicted = without + self.settings.guidance * (predicted - without)
            return to_x0(predicted, x, schedule.now(level[:, None, None]), kind)

        x = torch.randn(previous.shape, generator=generator).to(self.device)
        return ddim(denoiser, x, schedule, clip=bounded_clip(1.0 if text is None else self.settings.guidance))
