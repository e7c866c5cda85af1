"""Training the denoiser of the embedded model, a UNet: pictures without its layers over time, then clips with them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from longtake.models.hooks import GivenEmbedding, RepeatedEmbedding, swapped
from longtake.models.schedules import discrete_schedule
from longtake.train.fit.levels import LEAST_SIGMA, Clean, Timesteps
from longtake.train.fit.task import cpu_attention
from longtake.train.sprites.build import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
from longtake.train.sprites.cache import Drawn, LatentClips
from longtake.train.sprites.denoiser import DenoiserSettings, DenoiserTask


class UnetTask(DenoiserTask):
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
        """`unet` is trained in place; the rest stays as it is.

        The network stays in eval mode: dropout in the layers over time would only slow so small a network down.
        """
        table = scheduler.alphas_cumprod
        config: Any = scheduler.config
        schedule = discrete_schedule(table, settings.sample_steps, "trailing", config.prediction_type)
        super().__init__(unet.eval(), vae, clips, settings, schedule, config.prediction_type, pictures)
        self.alphas_cumprod = table.to(unet.device)

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

    def told(self, timestep: Tensor) -> Tensor:
        """Return the timestep itself."""
        return timestep

    def predict(self, x: Tensor, told: Timesteps, texts: Tensor, stride: Tensor) -> Tensor:
        """Return v, or x0; the network is not told of the stride."""
        return self.said(self.network, x, told, texts)

    def said(self, unet: Any, x: Tensor, told: Timesteps, texts: Tensor, more: Tensor | float = 0.0) -> Tensor:
        """Return the output of a network; `more` is added to the embedding of every frame's timestep."""
        text: Any = RepeatedEmbedding(texts.flatten(0, 1))
        embedding = unet.time_embedding(unet.time_proj(told.flatten())) + more
        pictures = without_time(unet) if self.settings.num_frames == 1 else nullcontext()
        with swapped(unet, "time_embedding", GivenEmbedding(embedding)), pictures, cpu_attention(x.device):
            return unet(x, told[:, 0], text, return_dict=False)[0].float()


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

    def guided(self, x: Tensor, told: Timesteps, clean: Clean, drawn: Drawn) -> Tensor:
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
