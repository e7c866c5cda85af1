"""CogVideoX 2b and 5b (CogVideoXTransformer3DModel; Yang et al., 2024, arXiv 2408.06072).

A transformer that attends over the tokens of a text and of all frames at once, a causal autoencoder that works in
pieces (4 pixel frames a latent frame, the first one 1) and the text encoder T5.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longtake.arrays import FrameIndex, FrameLevels, LatentFrames, Latents
from longtake.model import Condition, PerFrameNoise, VideoSpec
from longtake.models.cogvideox.decoder import Stream, decode
from longtake.models.cogvideox.network import Rotation, predict
from longtake.models.hooks import network_call
from longtake.models.hub.configs import Configs
from longtake.models.hub.load import levels_of, where_run
from longtake.models.hub.offload import HOST
from longtake.models.image_model import frame_levels
from longtake.models.known_frames import check_stretch
from longtake.models.schedules import discrete_schedule
from longtake.models.tiling import in_tiles
from longtake.schedule import Prediction, Schedule, Spacing, Table, to_x0

# Pixels and latents differ in size here, so `arrays.Frames` and `arrays.LatentFrames` cannot stand in one signature.
Pixels = Float[Tensor, "pixel_frames 3 pixel_height pixel_width"]


class CogVideoXModel(PerFrameNoise):
    """Text to video, with one prompt a window: text and video share every layer."""

    alphas_cumprod: Table
    prediction: Prediction

    def __init__(self, pipeline: Any, spec: VideoSpec, configs: Configs) -> None:
        self.pipeline, self.spec, self.digest = pipeline, spec, configs.digest()
        self.device, self.dtype = where_run(pipeline, pipeline.transformer)
        scheduler = configs.parts["scheduler"]
        self.alphas_cumprod, self.prediction = levels_of(scheduler.config, scheduler.where)

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return the text encoder's states of prompts, (prompts, tokens, width), padding among them, as the stock
        pipeline has them."""
        tokens: Any = self.pipeline.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.pipeline.transformer.config.max_text_seq_length,
            truncation=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            states = self.pipeline.text_encoder(tokens.input_ids.to(self.device))[0]
        return Condition({"text": states.to(self.dtype)})

    def schedule(self, num_levels: int, spacing: Spacing = "trailing") -> Schedule:
        """Return levels of the model's own training schedule."""
        return discrete_schedule(self.alphas_cumprod, num_levels, spacing, self.prediction)

    def denoise(
        self,
        x: Latents,
        level: FrameLevels | Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
    ) -> Latents:
        """Return x0; a level a window or a frame, and the prompt of the middle frame for all of a window."""
        level, middle = frame_levels(level, x), x.shape[2] // 2
        timestep = schedule.timestep[level.cpu()].float().to(self.device)
        text = condition.rows["text"][prompt_index[:, middle].to(self.device)]
        with network_call():
            predicted = predict(self.pipeline.transformer, x.to(self.dtype), timestep, text, self._rotation(x))
        at = schedule.now(level[:, None, :, None, None])
        return to_x0(predicted, x, at, self.prediction).to(x.dtype)

    def _rotation(self, x: Latents) -> Rotation | None:
        """Return the cosines and sines that turn the tokens of frames by their places, where the network has no
        positions of its own."""
        if not self.pipeline.transformer.config.use_rotary_positional_embeddings:
            return None
        pixels = (side * self.pipeline.vae_scale_factor_spatial for side in x.shape[3:])
        return self.pipeline._prepare_rotary_positional_embeddings(*pixels, x.shape[2], self.device)

    def decode(self, latents: LatentFrames, state: Any, last: bool) -> tuple[Pixels, Any]:
        """Decode piece after piece; latents of one that is not full wait in `state`, beside what the convolutions
        remember. Where parts take turns on the device, it is there for its own turn alone."""
        if self.spec.decoder.tiles:
            return in_tiles(self._decoded, self.spec, latents, state, last)
        return self._decoded(latents, state, last)

    def _decoded(self, latents: LatentFrames, state: Stream | None, last: bool) -> tuple[Pixels, Stream]:
        vae: Any = self.pipeline.vae
        given = (latents.to(self.device) / vae.config.scaling_factor).to(vae.dtype)[None]
        if state is not None and self.takes_turns:
            state = state.to(self.device)
        with torch.inference_mode():
            pixels, after = decode(vae, given, state, last)
        if self.takes_turns:
            after = after.to(HOST)
        return (pixels[0].transpose(0, 1).float() / 2 + 0.5).clamp(0, 1), after

    def encode_frames(self, frames: Pixels) -> LatentFrames:
        """Return the mean of the latents of a whole stretch, scaled to unit variance.

        Raises InputError for a number of frames other than 1, 5, 9, ...
        """
        vae: Any = self.pipeline.vae
        check_stretch(self.spec, len(frames))
        pixels = (frames * 2 - 1).to(self.device, vae.dtype).transpose(0, 1)[None]
        with torch.inference_mode():
            return vae.encode(pixels).latent_dist.mode()[0].float() * vae.config.scaling_factor


def wrap(pipeline: Any, spec: VideoSpec, configs: Configs) -> CogVideoXModel:
    """Make a pipeline a model."""
    return CogVideoXModel(pipeline, spec, configs)
