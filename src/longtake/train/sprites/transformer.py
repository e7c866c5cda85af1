"""Training a denoiser in which the tokens of all frames meet: pictures, then clips with a noise level per frame."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from longtake.models.hooks import swapped
from longtake.models.schedules import flow_schedule
from longtake.samplers.step import ddim
from longtake.schedule import to_x0
from longtake.train.fit.cpu_attention import cpu_attention
from longtake.train.fit.task import Scalars, Task
from longtake.train.sprites.autoencode import decoded_sheet
from longtake.train.sprites.build import AutoencoderKL, WanTransformer3DModel
from longtake.train.sprites.cache import LatentClips
from longtake.train.sprites.levels import NUM_TIMESTEPS, LevelMixture, Timesteps, sample_levels

Sigma = Float[Tensor, "clips frames"]
Seen = Bool[Tensor, "clips 1 queries words"]
"""Which words of its clip's texts a token attends to."""


@dataclass(frozen=True, kw_only=True)
class TransformerSettings:
    """Batches and loss of the transformer."""

    batch_size: int
    """Clips per step."""
    num_frames: int
    """Frames per clip; 1 trains pictures."""
    levels: LevelMixture = field(default_factory=LevelMixture)
    """Noise levels of the frames."""
    shift: float = 1.0
    """Of the levels: above 1 more of them are high ones, which decide what is common to all frames of a clip."""
    drop_text: float = 0.1
    """Share of clips that are trained with the empty prompt, for guidance."""
    compiled: bool = False
    """Whether steps run through torch.compile, which needs a C++ compiler: measured at 0.65 of the time of a step."""
    sample_steps: int = 16
    """Steps of the pictures made on the way."""
    guidance: float = 3.0
    """Guidance scale of the pictures made on the way."""


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


class TransformerTask(Task):
    """Predict the flow, noise - x0, at x = (1 - s) x0 + s noise (Lipman et al. 2023, arXiv:2210.02747)."""

    def __init__(
        self, transformer: WanTransformer3DModel, vae: AutoencoderKL, clips: LatentClips, settings: TransformerSettings
    ) -> None:
        """`transformer` is trained in place; the rest stays as it is."""
        self.transformer, self.vae, self.clips, self.settings = transformer, vae, clips, settings
        self.text_of_frame = TextOfFrame()
        if settings.num_frames > 1:
            blocks: Any = transformer.blocks
            for block in blocks:
                block.attn2.set_processor(self.text_of_frame)
        self.compiled = torch.compile(transformer) if settings.compiled else transformer
        num_shots, num_rows = len(clips.table), 6 if settings.num_frames > 1 else 48
        self.shown = clips.table[(torch.arange(num_rows) * 367 + 7) % num_shots, 0].float()

    def module(self) -> nn.Module:
        """The transformer."""
        return self.transformer

    def loss(self, generator: Generator) -> tuple[Tensor, Scalars]:
        """Mean squared error of the flow over the frames that are not clean."""
        settings = self.settings
        drawn = self.clips.draw(settings.batch_size, settings.num_frames, settings.drop_text, generator)
        timesteps, clean = sample_levels(settings.levels, settings.batch_size, settings.num_frames, generator)
        noise = torch.randn(drawn.latents.shape, generator=generator)
        sigma = noise_share(timesteps, clean, settings.shift)
        places = (drawn.latents, drawn.texts, drawn.later, sigma, clean, noise)
        latents, texts, later, sigma, clean, noise = (each.to(self.transformer.device) for each in places)
        noisy = latents.lerp(noise, sigma[:, None, :, None, None])
        if settings.num_frames == 1:
            predicted = _flow(self.compiled, noisy, sigma, texts[:, 0])
        else:
            seen = texts_seen(later, _tokens(self.transformer, noisy), texts.shape[2])
            with swapped(self.text_of_frame, "seen", seen):
                predicted = _flow(self.compiled, noisy, sigma, texts.flatten(1, 2))
        error = (predicted - (noise - latents)).square().mean(dim=(1, 3, 4))
        return (error * ~clean).sum() / (~clean).sum(), {}

    def sample(self) -> Float[Tensor, "3 height width"]:
        """Pictures, or every second frame of clips (a row each), of fixed captions from fixed noise."""
        return decoded_sheet(self.vae, self._denoised().transpose(1, 2))

    def save(self, folder: Path) -> None:
        """Write the transformer."""
        self.transformer.save_pretrained(folder)

    def _denoised(self) -> Float[Tensor, "clips channels frames height width"]:
        """Euler's steps with guidance, one level for all frames."""
        settings, device = self.settings, self.transformer.device
        text = torch.cat([self.shown, self.clips.empty.float().expand_as(self.shown)]).to(device)
        shape = (len(self.shown), self.clips.latents.shape[2], settings.num_frames, *self.clips.latents.shape[3:])
        schedule = flow_schedule(settings.sample_steps, settings.shift)

        def denoiser(x: Tensor, levels: Tensor) -> Tensor:
            sigma = (schedule.timestep[levels.cpu()] / NUM_TIMESTEPS).float().to(device)
            flow, without_text = _flow(self.transformer, torch.cat([x, x]), torch.cat([sigma, sigma]), text).chunk(2)
            flow = without_text + settings.guidance * (flow - without_text)
            return to_x0(flow, x, schedule.now(levels[:, None, :, None, None]), "flow")

        x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
        return ddim(denoiser, x, schedule)


def noise_share(timesteps: Timesteps, clean: Bool[Tensor, "clips frames"], shift: float = 1.0) -> Sigma:
    """The share of noise at timesteps 0 .. 999: above 0, up to exactly 1, and 0 for clean frames."""
    share = (timesteps + 1) / NUM_TIMESTEPS
    return torch.where(clean, 0.0, shift * share / (1 + (shift - 1) * share))


def texts_seen(later: Bool[Tensor, "clips frames"], tokens: int, words: int) -> Seen:
    """Let the `tokens` tokens of every frame see one of two texts of `words` words, later frames the second."""
    text = torch.stack([~later, later], dim=2)
    return text.repeat_interleave(tokens, dim=1).repeat_interleave(words, dim=2)[:, None]


def _tokens(network: Any, x: Tensor) -> int:
    """How many tokens a frame has."""
    return x.shape[3] * x.shape[4] // network.config.patch_size[1] ** 2


def _flow(network: Any, x: Tensor, sigma: Sigma, text: Tensor) -> Tensor:
    """The network's output; it is told a timestep, 1000 s, for every token."""
    timestep = (sigma * NUM_TIMESTEPS).repeat_interleave(_tokens(network, x), dim=1)
    with cpu_attention(x.device):
        return network(x, timestep, text, return_dict=False)[0].float()
