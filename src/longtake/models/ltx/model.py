"""LTX-Video 0.9 (LTXVideoTransformer3DModel; HaCohen et al., 2024, arXiv 2501.00103) and LTX-2 (its successor).

A transformer that attends over the tokens of all frames at once, a video autoencoder whose decoder looks ahead (8 pixel
frames a latent frame, the first one 1) and the text encoder T5, or Gemma and two transformers over its layers. LTX-2
makes sound beside the picture, which is left out here: its two halves are kept apart, as the library can.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.ltx.pipeline_ltx import calculate_shift
from diffusers.pipelines.ltx.pipeline_ltx_condition import linear_quadratic_schedule
from jaxtyping import Float, Int
from torch import Tensor

from longtake.arrays import FrameIndex, FrameLevels, LatentFrames, Latents
from longtake.attention import FrameMixer
from longtake.model import Condition, TemporalHooks, VideoSpec
from longtake.models.hooks import network_call
from longtake.models.hub.configs import Configs
from longtake.models.hub.load import where_run
from longtake.models.known_frames import CleanFrames, check_stretch
from longtake.models.ltx.attention import frame_texts, mixed_frames
from longtake.models.ltx.decoder import decode
from longtake.models.ltx.spec import is_second, takes_conditions, text_tokens
from longtake.models.schedules import check_flow_spacing, flow_at, given_levels
from longtake.models.tiling import in_tiles
from longtake.schedule import Schedule, Spacing, to_x0

# Pixels and latents differ in size here, so `arrays.Frames` and `arrays.LatentFrames` cannot stand in one signature.
Pixels = Float[Tensor, "pixel_frames 3 pixel_height pixel_width"]


class LtxBase(CleanFrames, TemporalHooks):
    """What all share: a transformer with full attention over time and space that predicts the flow from picture to
    noise, and an autoencoder.

    Known frames are put into the window, clean and told so. A model whose spec says `clean_frames` was trained with
    them, the others with the first one at most.
    """

    def __init__(self, pipeline: Any, spec: VideoSpec, configs: Configs) -> None:
        self.pipeline, self.spec, self.digest = pipeline, spec, configs.digest()
        self.takes_conditions, self.text_tokens = takes_conditions(configs), text_tokens(configs)
        self.device, self.dtype = where_run(pipeline, pipeline.transformer)
        # The network has another while a mixer is in place.
        self.rope = pipeline.transformer.rope

    @abstractmethod
    def flow(self, x: Latents, timestep: Tensor, condition: Condition, prompt_index: FrameIndex) -> Tensor:
        """Return what the network predicts, a row a token; `timestep` has one a window or a frame."""

    def schedule(self, num_levels: int, spacing: Spacing = "trailing") -> Schedule:
        """Return the levels of the stock pipeline: shifted by the length of a window, or linear and then quadratic; or
        those that the model was distilled to.

        Raises InputError for a spacing other than trailing.
        """
        check_flow_spacing(self.spec.name, spacing)
        if self.spec.sigmas:
            return given_levels(self.spec.sigmas, num_levels)
        if num_levels == 1:
            # Stretched to its last share of noise, which would be the first one too, a single level is 0 over 0.
            noisy = torch.ones(1)
        elif self.takes_conditions:
            noisy = linear_quadratic_schedule(num_levels)
        else:
            scheduler = deepcopy(self.pipeline.scheduler)
            names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
            mu = calculate_shift(math.prod(self.spec.latent_shape[1:]), *(scheduler.config[name] for name in names))
            scheduler.set_timesteps(sigmas=np.linspace(1, 1 / num_levels, num_levels).tolist(), mu=mu)
            noisy = scheduler.sigmas[:-1]
        return flow_at(torch.cat([noisy.double(), torch.zeros(1, dtype=torch.float64)]).flip(0))

    def denoise(
        self,
        x: Latents,
        level: FrameLevels | Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
    ) -> Latents:
        """Return x0; a level a window or a frame, a prompt for every frame."""
        timestep = schedule.timestep[level.cpu()].float().to(self.device)
        with network_call():
            flow = self.flow(x, timestep, condition, prompt_index)
        at = schedule.now(level[:, None, None, None, None] if level.ndim == 1 else level[:, None, :, None, None])
        return to_x0(flow.transpose(1, 2).unflatten(2, x.shape[2:]), x, at, "flow").to(x.dtype)

    def mixing(self, mixer: FrameMixer) -> AbstractContextManager[None]:
        """Let `mixer` bring the tokens of all frames together in every layer, inside the context.

        All frames are as far apart there as any two but the first; frames farther apart than those of one call of the
        network count as its first and last.
        """
        seconds, reach = self.spec.timing.stride / self.spec.fps, self.spec.num_frames - 1
        tokens = self.spec.latent_shape[2] * self.spec.latent_shape[3]
        return mixed_frames(self.pipeline.transformer, mixer, tokens, seconds, reach)

    def decode(self, latents: LatentFrames, state: Any, last: bool) -> tuple[Pixels, Any]:
        """Decode latent after latent; `state` lists what the layers remember of earlier ones."""
        if self.spec.decoder.tiles:
            return in_tiles(self._decoded, self.spec, latents, state, last)
        return self._decoded(latents, state, last)

    def _decoded(self, latents: LatentFrames, state: Any, last: bool) -> tuple[Pixels, Any]:
        vae: Any = self.pipeline.vae
        mean, std = (table.view(-1, 1, 1, 1) for table in (vae.latents_mean, vae.latents_std))
        scaled = latents.to(self.device, vae.dtype) * std / vae.config.scaling_factor + mean
        decoded: list[Tensor] = []
        with torch.inference_mode():
            # Each by itself: then the same numbers are computed however the stream is cut.
            parts = scaled[None].split(1, dim=2)
            for number, part in enumerate(parts, start=1):
                pixels, state = decode(vae, part, state, last and number == len(parts))
                decoded.append(pixels)
        return (torch.cat(decoded, dim=2)[0].transpose(0, 1).float() / 2 + 0.5).clamp(0, 1), state

    def encode_frames(self, frames: Pixels) -> LatentFrames:
        """Return the mean of the latents of a whole stretch, scaled to unit variance.

        Raises InputError for a number of frames other than 1 and multiples of the stride more.
        """
        check_stretch(self.spec, len(frames))
        vae = self.pipeline.vae
        with torch.inference_mode():
            video = (frames.to(self.device, vae.dtype) * 2 - 1).transpose(0, 1)[None]
            latents = vae.encode(video).latent_dist.mode()[0]
        mean, std = (table.view(-1, 1, 1, 1) for table in (vae.latents_mean, vae.latents_std))
        return ((latents - mean) * vae.config.scaling_factor / std).float()


class LtxModel(LtxBase):
    """LTX-Video 0.9."""

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return the text encoder's states of prompts, and which of them count, as the stock pipeline has them."""
        given: Any = self.pipeline.tokenizer(
            list(prompts), padding="max_length", max_length=self.text_tokens, truncation=True, return_tensors="pt"
        )
        valid = given.attention_mask.to(self.device, torch.bool)
        with torch.inference_mode():
            # The first pipeline let the text encoder see the padding; its transformer was trained so.
            seen = {"attention_mask": valid} if self.takes_conditions else {}
            states = self.pipeline.text_encoder(given.input_ids.to(self.device), **seen)[0]
        return Condition({"text": states.to(self.dtype), "valid": valid})

    def flow(self, x: Latents, timestep: Tensor, condition: Condition, prompt_index: FrameIndex) -> Tensor:
        """Return what the network predicts; its layers for text know theirs beforehand."""
        transformer: Any = self.pipeline.transformer
        rows, places = prompt_index.flatten().to(self.device).unique(return_inverse=True)
        text, valid = condition.rows["text"][rows], condition.rows["valid"][rows]
        with frame_texts(transformer, transformer.caption_projection(text), valid, places):
            (flow,) = transformer(
                hidden_states=_tokens(x, self.dtype),
                encoder_hidden_states=text[:1, :1].expand(len(x), -1, -1),
                timestep=_by_token(timestep, x),
                encoder_attention_mask=None,
                video_coords=self._places(x).expand(len(x), -1, -1),
                return_dict=False,
            )
        return flow

    def _places(self, x: Latents) -> Float[Tensor, "1 3 tokens"]:
        """Return the second, row and column of every token; the first latent frame is one pixel frame."""
        sizes = (self.spec.timing.stride, self.pipeline.vae.spatial_compression_ratio)
        frames, height, width = (torch.arange(size, dtype=torch.float32, device=self.device) for size in x.shape[2:])
        frames = frames * sizes[0]
        if self.takes_conditions:
            frames = (frames + 1 - sizes[0]).clamp(min=0)
        grid = torch.meshgrid(frames / self.spec.fps, height * sizes[1], width * sizes[1], indexing="ij")
        return torch.stack(grid).flatten(1)[None]


class Ltx2Model(LtxBase):
    """LTX-2: the half of its network that makes the picture."""

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return what the connectors make of all layers of the text encoder, and which tokens count, as the stock
        pipeline has them."""
        tokenizer = self.pipeline.tokenizer
        tokenizer.padding_side = "left"
        given: Any = tokenizer(
            [prompt.strip() for prompt in prompts],
            padding="max_length",
            max_length=self.text_tokens,
            truncation=True,
            return_tensors="pt",
        )
        ids, mask = given.input_ids.to(self.device), given.attention_mask.to(self.device)
        with torch.inference_mode():
            layers = self.pipeline.text_encoder(
                input_ids=ids, attention_mask=mask, output_hidden_states=True, logits_to_keep=1
            )
            states = torch.stack(layers.hidden_states, dim=-1).flatten(2).to(self.dtype)
            text, _, valid = self.pipeline.connectors(states, mask, padding_side="left")
        return Condition({"text": text.to(self.dtype), "valid": valid.bool()})

    def flow(self, x: Latents, timestep: Tensor, condition: Condition, prompt_index: FrameIndex) -> Tensor:
        """Return what the network predicts of the picture, without a look at the sound, of which one token is given."""
        transformer: Any = self.pipeline.transformer
        config, alone = transformer.config, x.new_zeros(len(x), 1, 1, dtype=self.dtype)
        # In LTX-2.3 a text reads otherwise at every level.
        reads_level = transformer.prompt_modulation and config.use_prompt_adaln_single
        noise = timestep.view(len(x), -1).expand(-1, x.shape[2]) * reads_level
        pairs, places = torch.stack([prompt_index.to(noise), noise]).flatten(1).unique(dim=1, return_inverse=True)
        # The blocks want as many rows of texts as there are windows: all texts one after the other, shared out evenly.
        pairs = torch.cat([pairs, pairs[:, :1].expand(-1, -pairs.shape[1] % len(x))], dim=1)
        text, valid = (condition.rows[name][pairs[0].long()] for name in ("text", "valid"))
        width = config.caption_channels if config.use_prompt_embeddings else config.audio_cross_attention_dim
        places_of = {"batch_size": len(x), "fps": self.spec.fps, "device": x.device}
        sizes = dict(zip(("num_frames", "height", "width"), x.shape[2:], strict=True))
        with frame_texts(transformer, None, valid, places):
            flow, _ = transformer(
                hidden_states=_tokens(x, self.dtype),
                audio_hidden_states=alone.expand(-1, -1, config.audio_in_channels),
                encoder_hidden_states=text.reshape(len(x), -1, text.shape[-1]),
                audio_encoder_hidden_states=alone.expand(-1, -1, width),
                timestep=_by_token(timestep, x),
                audio_timestep=alone[:, 0, 0].float(),
                sigma=pairs[1, :, None].expand(-1, text.shape[1]).reshape(len(x), -1),
                audio_sigma=alone[:, 0, 0].float(),
                video_coords=self.rope.prepare_video_coords(**sizes, **places_of),
                audio_num_frames=1,
                isolate_modalities=True,
                use_cross_timestep=True,
                return_dict=False,
            )
        return flow


def _tokens(x: Latents, dtype: torch.dtype) -> Float[Tensor, "windows tokens channels"]:
    return x.to(dtype).flatten(2).transpose(1, 2)


def _by_token(timestep: Tensor, x: Latents) -> Tensor:
    """Return a timestep a token, which is what the networks take in place of one a window."""
    return timestep if timestep.ndim == 1 else timestep.repeat_interleave(x.shape[3] * x.shape[4], dim=1)


def wrap(pipeline: Any, spec: VideoSpec, configs: Configs) -> LtxBase:
    """Return the model that a pipeline is."""
    return Ltx2Model(pipeline, spec, configs) if is_second(configs) else LtxModel(pipeline, spec, configs)
