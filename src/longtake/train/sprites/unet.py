"""Training the denoiser of the embedded model, a UNet: pictures without its layers over time, then clips with them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from longtake.models.hooks import GivenEmbedding, swapped
from longtake.models.schedules import discrete_schedule
from longtake.train.fit.task import cpu_attention
from longtake.train.sprites.build import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
from longtake.train.sprites.cache import LatentClips
from longtake.train.sprites.denoiser import DenoiserSettings, DenoiserTask
from longtake.train.sprites.levels import Clean, Timesteps


class UnetTask(DenoiserTask):
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
        table = scheduler.alphas_cumprod
        schedule = discrete_schedule(table, settings.sample_steps, "trailing", "v_prediction")
        super().__init__(unet.eval(), vae, clips, settings, schedule, "v_prediction")
        self.alphas_cumprod = table.to(unet.device)

    def noisy(
        self, latents: Tensor, noise: Tensor, timesteps: Timesteps, clean: Clean
    ) -> tuple[Tensor, Tensor, Timesteps]:
        """Return the mixture, v, and the timesteps."""
        bar = torch.where(clean, 1.0, self.alphas_cumprod[timesteps])[:, None, :, None, None]
        alpha, sigma = bar.sqrt(), (1 - bar).sqrt()
        return alpha * latents + sigma * noise, alpha * noise - sigma * latents, timesteps

    def told(self, timestep: Tensor) -> Tensor:
        """Return the timestep itself."""
        return timestep

    def predict(self, x: Tensor, told: Timesteps, texts: Tensor, later: Tensor | None) -> Tensor:
        """Return v, of the first text alone."""
        unet = self.network
        embedding = unet.time_embedding(unet.time_proj(told.flatten()))
        pictures = without_time(unet) if self.settings.num_frames == 1 else nullcontext()
        with swapped(unet, "time_embedding", GivenEmbedding(embedding)), pictures, cpu_attention(x.device):
            return unet(x, told[:, 0], texts[:, 0], return_dict=False)[0].float()


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
