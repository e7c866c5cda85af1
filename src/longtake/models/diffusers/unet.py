"""ModelScope's family of text-to-video models (UNet3DConditionModel; Wang et al., 2023, arXiv 2308.06571).

One class for every folder of that layout: the embedded models, ModelScope, ZeroScope.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from jaxtyping import Float, Int
from torch import Tensor, nn

from longtake.arrays import FrameIndex, FrameLevels, LatentFrames, Latents
from longtake.model import (
    Condition,
    TemporalHooks,
    TemporalLayer,
    VideoSpec,
)
from longtake.models.clean_frames import CleanFrames
from longtake.models.diffusers.folder import folder_spec, part_folders
from longtake.models.diffusers.hooks import (
    frame_conditions,
    self_attention,
    self_attention_layers,
    text_layers,
    text_table,
)
from longtake.models.diffusers.hub_files import digest
from longtake.models.diffusers.load import Parts, load_parts
from longtake.schedule import Schedule, Spacing, discrete_schedule, to_x0

PIXELS_AT_ONCE = 2**17
"""Pixels that the image decoder is given in one call: 32 frames of 64 x 64, 2 of 256 x 256."""


# Pixels and latents differ in size here, so `arrays.Frames` and `arrays.LatentFrames` cannot stand in one signature.
Pixels = Float[Tensor, "frames 3 pixel_height pixel_width"]


class UNetModel(CleanFrames, TemporalHooks):
    """A UNet over space and time, an image VAE and CLIP's text encoder.

    Infill and continuation give good pictures only where the network was trained for them: see `spec.clean_frames`.
    """

    def __init__(self, spec: VideoSpec, parts: Parts, digest: str) -> None:
        self.spec, self.parts, self.digest = spec, parts, digest
        self.device, self.dtype = parts.unet.device, parts.unet.dtype
        self.text_layers = text_layers(parts.unet)
        is_slow = self.device.type == "cpu" and self.dtype == torch.bfloat16
        self.slow_layers = self_attention_layers(parts.unet) if is_slow else []
        self.time_table = self._embed_timesteps()

    def text_states(self, prompts: Sequence[str]) -> Float[Tensor, "prompts tokens width"]:
        """Return what the text encoder makes of prompts, cut or padded to the tokenizer's length."""
        tokenizer, encoder = self.parts.tokenizer, self.parts.text_encoder
        tokens = tokenizer(
            list(prompts),
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        with torch.no_grad():
            return encoder(tokens.input_ids.to(self.device))[0]

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return the keys and values of prompts in all the layers that attend to text: computed once for all calls."""
        with torch.no_grad():
            return Condition(text_table(self.text_layers, self.text_states(prompts).to(self.dtype)))

    def schedule(self, num_levels: int, spacing: Spacing = "trailing") -> Schedule:
        """Return levels of the model's own training schedule."""
        return discrete_schedule(self.parts.alphas_cumprod, num_levels, spacing, self.parts.prediction)

    def denoise(
        self,
        x: Latents,
        level: FrameLevels | Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
    ) -> Latents:
        """Return x0; a level and a prompt for every frame."""
        level = level if level.ndim == 2 else level[:, None].expand(x.shape[0], x.shape[2])
        timestep = schedule.timestep[level.cpu()].flatten().to(self.device)
        # The UNet repeats a text over the frames; its layers never read it, so the smallest will do.
        text = x.new_empty((len(x), 1, 1), dtype=self.dtype)
        with (
            torch.inference_mode(),
            self_attention(self.slow_layers),
            frame_conditions(
                self.parts.unet,
                self.text_layers,
                self.time_table[timestep],
                condition.table,
                prompt_index.flatten(),
            ),
        ):
            (prediction,) = self.parts.unet(x.to(self.dtype), timestep[:1], text, return_dict=False)
        x0 = to_x0(prediction, x, schedule.now(level[:, None, :, None, None]), self.parts.prediction)
        return x0.to(x.dtype)

    def decode(self, latents: LatentFrames, state: Any) -> tuple[Pixels, Any]:
        """Decode every frame by itself, a few at a time; there is nothing to remember."""
        vae: Any = self.parts.vae
        latents = (latents / vae.config.scaling_factor).transpose(0, 1).to(self.dtype)
        with torch.inference_mode():
            decoded = [vae.decode(part).sample for part in latents.split(self._frames_at_once())]
        return (torch.cat(decoded).float() / 2 + 0.5).clamp(0, 1), {}

    def encode_frames(self, frames: Pixels) -> LatentFrames:
        """Return the mean of each frame's latents, scaled to unit variance."""
        vae: Any = self.parts.vae
        pixels = (frames * 2 - 1).to(self.device, self.dtype)
        with torch.inference_mode():
            means = [vae.encode(part).latent_dist.mode() for part in pixels.split(self._frames_at_once())]
        return (torch.cat(means).float() * vae.config.scaling_factor).transpose(0, 1)

    def temporal_layers(self) -> Sequence[TemporalLayer]:
        """Return the innermost layers that mix frames, in the order in which they run.

        A convolution (3 frames wide) and a norm (over the whole clip) are given (windows, channels, frames, height,
        width), an attention is given (windows x cells, frames, channels).
        """
        order: list[TemporalLayer] = []
        handles = [
            layer.module.register_forward_pre_hook(lambda *_, layer=layer: order.append(layer))
            for layer in _temporal_layers(self.parts.unet)
        ]
        try:
            x = torch.zeros((1, *self.spec.latent_shape), device=self.device)[:, :, :2]
            index = torch.zeros((1, 2), dtype=torch.long, device=self.device)
            self.denoise(x, index + 1, self.schedule(1), self.encode([""]), index)
        finally:
            for handle in handles:
                handle.remove()
        return order

    def _embed_timesteps(self) -> Float[Tensor, "timesteps width"]:
        """Return the time embedding of every timestep of training: a lookup replaces the layer from here on."""
        unet = self.parts.unet
        timesteps = torch.arange(len(self.parts.alphas_cumprod), device=self.device)
        with torch.no_grad():
            return unet.time_embedding(unet.time_proj(timesteps).to(self.dtype))

    def _frames_at_once(self) -> int:
        return max(1, PIXELS_AT_ONCE // (self.spec.height * self.spec.width))


def load_unet(folder: Path, device: torch.device | str, dtype: torch.dtype) -> UNetModel:
    """Load the model in a folder of the hub's layout.

    Raises InputError for a model of another kind, CheckpointError for missing or damaged files.
    """
    spec = folder_spec(folder)
    parts = load_parts(folder, torch.device(device), dtype)
    return UNetModel(spec, parts, digest(part_folders(folder).values()))


def _temporal_layers(unet: nn.Module) -> list[TemporalLayer]:
    """Return the layers that mix frames in any order: all that lie in a part of the UNet that is made for time."""
    owners = [module for module in unet.modules() if isinstance(module, (TransformerTemporalModel, TemporalConvLayer))]
    layers = []
    for module in (module for owner in owners for module in owner.modules()):
        if isinstance(module, nn.Conv3d):
            layers.append(TemporalLayer("convolution", module, frame_axis=2))
        elif isinstance(module, nn.GroupNorm):
            layers.append(TemporalLayer("norm", module, frame_axis=2))
        elif isinstance(module, Attention):
            layers.append(TemporalLayer("attention", module, frame_axis=1))
    return layers
