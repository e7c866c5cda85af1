"""Training a denoiser in which the tokens of all frames meet: pictures, then clips with a noise level per frame."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor
from jaxtyping import Bool, Float
from torch import Tensor

from longtake.models.hooks import swapped
from longtake.models.schedules import flow_schedule
from longtake.train.fit.levels import NUM_TIMESTEPS, Clean, Timesteps
from longtake.train.fit.task import cpu_attention
from longtake.train.sprites.build import AutoencoderKL, WanTransformer3DModel
from longtake.train.sprites.cache import LatentClips
from longtake.train.sprites.denoiser import DenoiserSettings, DenoiserTask

Sigma = Float[Tensor, "clips frames"]
Seen = Bool[Tensor, "clips 1 queries words"]
"""Which words of its clip's texts a token attends to."""


@dataclass(frozen=True, kw_only=True)
class TransformerSettings(DenoiserSettings):
    """Batches and loss of the transformer."""

    shift: float = 1.0
    """Of the levels: above 1 more of them are high ones, which decide what is common to all frames of a clip."""
    compiled: bool = False
    """Whether steps run through torch.compile, which needs a C++ compiler: measured at 0.65 of the time of a step."""


class TextOfFrame:
    """Attention processor of the layers for text, in which not every token sees all texts that its clip has."""

    def __init__(self) -> None:
        """Let all see all."""
        self.seen: Seen | None = None
        self._stock = WanAttnProcessor()

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None,
        rotary_emb: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """Return what the layer adds to (clips, frames x tokens, channels)."""
        return self._stock(attn, hidden_states, encoder_hidden_states, self.seen, rotary_emb)


class TransformerTask(DenoiserTask):
    """Predict the flow, noise - x0, at x = (1 - s) x0 + s noise (Lipman et al. 2023, arXiv:2210.02747)."""

    def __init__(
        self, transformer: WanTransformer3DModel, vae: AutoencoderKL, clips: LatentClips, settings: TransformerSettings
    ) -> None:
        """`transformer` is trained in place; the rest stays as it is."""
        schedule = flow_schedule(settings.sample_steps, settings.shift)
        super().__init__(transformer, vae, clips, settings, schedule, "flow")
        self.shift, self.text_of_frame = settings.shift, TextOfFrame()
        if settings.num_frames > 1:
            blocks: Any = transformer.blocks
            for block in blocks:
                block.attn2.set_processor(self.text_of_frame)
        self.compiled = torch.compile(transformer) if settings.compiled else transformer

    def noisy(self, latents: Tensor, noise: Tensor, timesteps: Timesteps, clean: Clean) -> tuple[Tensor, Tensor, Sigma]:
        """Return the mixture, the flow, and the shares of noise."""
        sigma = noise_share(timesteps, clean, self.shift)
        return latents.lerp(noise, sigma[:, None, :, None, None]), noise - latents, sigma

    def told(self, timestep: Tensor) -> Tensor:
        """Return the share of noise."""
        return (timestep / NUM_TIMESTEPS).float()

    def predict(self, x: Tensor, told: Tensor, texts: Tensor, later: Tensor | None) -> Tensor:
        """Return the flow; the network is told a timestep, 1000 s, for every token."""
        # Pictures on the way are of another shape than a batch, and rare: not worth compiling.
        network = self.compiled if torch.is_grad_enabled() else self.network
        tokens = x.shape[3] * x.shape[4] // self.network.config.patch_size[1] ** 2
        timestep = (told * NUM_TIMESTEPS).repeat_interleave(tokens, dim=1)
        if later is None or self.settings.num_frames == 1:
            seen, text = None, texts[:, 0]
        else:
            seen, text = texts_seen(later, tokens, texts.shape[2]), texts.flatten(1, 2)
        with swapped(self.text_of_frame, "seen", seen), cpu_attention(x.device):
            return network(x, timestep, text, return_dict=False)[0].float()


def noise_share(timesteps: Timesteps, clean: Clean, shift: float = 1.0) -> Sigma:
    """The share of noise at timesteps 0 .. 999: above 0, up to exactly 1, and 0 for clean frames."""
    share = (timesteps + 1) / NUM_TIMESTEPS
    return torch.where(clean, 0.0, shift * share / (1 + (shift - 1) * share))


def texts_seen(later: Bool[Tensor, "clips frames"], tokens: int, words: int) -> Seen:
    """Let the `tokens` tokens of every frame see one of two texts of `words` words, later frames the second."""
    text = torch.stack([~later, later], dim=2)
    return text.repeat_interleave(tokens, dim=1).repeat_interleave(words, dim=2)[:, None]
