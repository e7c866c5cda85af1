"""What all models of the Wan family share (Wan Team, 2025, arXiv 2503.20314): everything but a call of the network.

Transformers that attend over the tokens of all frames at once, a causal video autoencoder (4 pixel frames a latent
frame, the first one 1) and the text encoder UMT5.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, unpatchify
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from jaxtyping import Float
from torch import Tensor

from longtake.arrays import LatentFrames
from longtake.errors import InputError
from longtake.model import Condition, VideoModel, VideoSpec
from longtake.models.hub.configs import Configs
from longtake.models.hub.load import where_run
from longtake.models.hub.offload import HOST
from longtake.models.tiling import in_tiles
from longtake.models.wan.network import Experts, flow_levels, network_dtype
from longtake.models.wan.spec import TEXT_TOKENS, boundary, flow_shift
from longtake.schedule import Schedule, Spacing

# Pixels and latents differ in size here, so `arrays.Frames` and `arrays.LatentFrames` cannot stand in one signature.
Pixels = Float[Tensor, "pixel_frames 3 pixel_height pixel_width"]


class WanBase(VideoModel):
    """A pipeline of which the transformers predict the flow from picture to noise; how they are called is a model's."""

    def __init__(self, pipeline: Any, spec: VideoSpec, configs: Configs) -> None:
        self.pipeline, self.spec, self.digest = pipeline, spec, configs.digest()
        self.shift, self.experts = flow_shift(configs), Experts(pipeline, boundary(configs))
        self.device, _ = where_run(pipeline, pipeline.transformer)
        self.dtype = network_dtype(pipeline.transformer)
        config: Any = pipeline.vae.config
        shape = (-1, 1, 1, 1)
        self.latents_mean = torch.tensor(config.latents_mean, device=self.device).view(shape)
        self.latents_std = torch.tensor(config.latents_std, device=self.device).view(shape)

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return the text encoder's states of prompts, zero after each prompt's end, as the stock pipeline has them."""
        given: Any = self.pipeline.tokenizer(
            [prompt_clean(prompt) for prompt in prompts],
            padding="max_length",
            max_length=TEXT_TOKENS,
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        mask = given.attention_mask.to(self.device)
        with torch.inference_mode():
            states = self.pipeline.text_encoder(given.input_ids.to(self.device), mask).last_hidden_state
        return Condition({"text": states.to(self.dtype) * mask[..., None].to(self.dtype)})

    def schedule(self, num_levels: int, spacing: Spacing = "trailing") -> Schedule:
        """Return levels of a flow: with the model's shift, or those that it was distilled to, and what lies between.

        Raises InputError for a spacing other than trailing.
        """
        return flow_levels(self.spec, num_levels, self.shift, spacing)

    def decode(self, latents: LatentFrames, state: Any, last: bool) -> tuple[Pixels, Any]:
        """Decode frame after frame; `state` lists what every causal convolution of the decoder remembers of earlier
        ones. Where parts take turns on the device, it is there for its own turn alone."""
        if self.spec.decoder.tiles:
            return in_tiles(self._decoded, self.spec, latents, state, last)
        return self._decoded(latents, state, last)

    def _decoded(self, latents: LatentFrames, state: Any, last: bool) -> tuple[Pixels, Any]:
        vae: Any = self.pipeline.vae
        memory = state or [None for module in vae.decoder.modules() if isinstance(module, WanCausalConv3d)]
        if self.takes_turns:
            memory = _moved(memory, self.device)
        scaled = (latents.to(self.device, vae.dtype) * self.latents_std + self.latents_mean)[None]
        decoded: list[Tensor] = []
        with torch.inference_mode():
            # Each by itself from here on: then the same numbers are computed however the stream is cut.
            for frame in scaled.split(1, dim=2):
                z, is_first = vae.post_quant_conv(frame), state is None and not decoded
                decoded.append(vae.decoder(z, feat_cache=memory, feat_idx=[0], first_chunk=is_first))
        pixels = torch.cat(decoded, dim=2)
        if vae.config.patch_size is not None:
            pixels = unpatchify(pixels, vae.config.patch_size)
        if self.takes_turns:
            memory = _moved(memory, HOST)
        return (pixels[0].transpose(0, 1).float() / 2 + 0.5).clamp(0, 1), memory

    def encode_frames(self, frames: Pixels) -> LatentFrames:
        """Return the mean of the latents of a whole stretch, scaled to unit variance.

        Raises InputError for a number of frames other than 1, 5, 9, ...
        """
        vae: Any = self.pipeline.vae
        timing = self.spec.timing
        if timing.pixel_frames(timing.latent_frames(len(frames))) != len(frames):
            raise InputError(
                f"{self.spec.name} encodes 1 frame and {timing.stride} for each further latent, not {len(frames)}"
            )
        pixels = (frames * 2 - 1).to(self.device, vae.dtype).transpose(0, 1)[None]
        with torch.inference_mode():
            mean = vae.encode(pixels).latent_dist.mode()[0].float()
        return (mean - self.latents_mean) / self.latents_std


def _moved(memory: Sequence[Any], device: torch.device) -> list[Any]:
    """Return what convolutions remember, on a device; some have a mark in place of numbers."""
    return [kept.to(device) if isinstance(kept, Tensor) else kept for kept in memory]
