"""What models share whose latents go frame by frame through an image autoencoder, with the noise levels of a DDPM.

That autoencoder (AutoencoderKL), and CLIP's text encoder, for others that have them, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle
from transformers import CLIPTextModel, CLIPTokenizer

from longtake.arrays import FrameLevels, LatentFrames, Latents
from longtake.model import VideoModel, VideoSpec
from longtake.models.hub.configs import Configs
from longtake.models.hub.load import levels_of, where_run
from longtake.models.image_spec import PIXELS_AT_ONCE
from longtake.models.schedules import discrete_schedule
from longtake.models.tiling import in_tiles
from longtake.schedule import Prediction, Schedule, Spacing, Table, to_x0

# Pixels and latents differ in size here, so `arrays.Frames` and `arrays.LatentFrames` cannot stand in one signature.
Pixels = Float[Tensor, "frames 3 pixel_height pixel_width"]


def decode_frames(autoencoder: AutoencoderKL, latents: LatentFrames) -> Pixels:
    """Decode every frame by itself, a few at a time."""
    vae: Any = autoencoder
    stride = 2 ** (len(vae.config.block_out_channels) - 1)
    at_once = _frames_at_once(latents.shape[2] * latents.shape[3] * stride**2)
    latents = (latents / vae.config.scaling_factor).transpose(0, 1).to(vae.dtype)
    with torch.inference_mode():
        decoded = [vae.decode(part).sample for part in latents.split(at_once)]
    return (torch.cat(decoded).float() / 2 + 0.5).clamp(0, 1)


def encode_frames(autoencoder: AutoencoderKL | AutoencoderKLTemporalDecoder, frames: Pixels) -> LatentFrames:
    """Return the mean of each frame's latents, scaled to unit variance."""
    vae: Any = autoencoder
    pixels = (frames * 2 - 1).to(vae.device, vae.dtype)
    with torch.inference_mode():
        parts = pixels.split(_frames_at_once(frames.shape[2] * frames.shape[3]))
        means = [vae.encode(part).latent_dist.mode() for part in parts]
    return (torch.cat(means).float() * vae.config.scaling_factor).transpose(0, 1)


def _frames_at_once(pixels: int) -> int:
    return max(1, PIXELS_AT_ONCE // pixels)


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A way to pixels and back that is another than frame by frame."""

    decode: Callable[[LatentFrames], Pixels]
    encode: Callable[[Pixels], LatentFrames]


def codec_in_cells(autoencoder: AutoencoderKL, side: int) -> Codec:
    """Return a codec of which a latent is a square of the autoencoder's, so many a side, with the channels of all."""

    def decode(latents: LatentFrames) -> Pixels:
        return decode_frames(autoencoder, pixel_shuffle(latents.transpose(0, 1), side).transpose(0, 1))

    def encode(frames: Pixels) -> LatentFrames:
        return pixel_unshuffle(encode_frames(autoencoder, frames).transpose(0, 1), side).transpose(0, 1)

    return Codec(decode=decode, encode=encode)


class ImageModel(VideoModel):
    """A pipeline with an image autoencoder and a scheduler; what its network does and reads is the family's."""

    alphas_cumprod: Table
    prediction: Prediction
    x0_scale: Table | None = None
    """What training multiplied x0 by at every timestep."""
    codec: Codec | None = None
    """What decodes and encodes, where the image autoencoder does not do so by itself."""

    def __init__(self, pipeline: Any, spec: VideoSpec, configs: Configs, network: Any) -> None:
        """Take a pipeline as it is; `network` is the part that denoises."""
        self.pipeline, self.spec, self.digest = pipeline, spec, configs.digest()
        self.device, self.dtype = where_run(pipeline, network)
        scheduler = configs.parts["scheduler"]
        self.alphas_cumprod, self.prediction = levels_of(scheduler.config, scheduler.where)

    def text_states(self, prompts: Sequence[str]) -> Float[Tensor, "prompts tokens width"]:
        """Return what CLIP's text encoder makes of prompts, cut or padded to the tokenizer's length."""
        return text_states(self.pipeline.tokenizer, self.pipeline.text_encoder, prompts)

    def schedule(self, num_levels: int, spacing: Spacing = "trailing") -> Schedule:
        """Return levels of the model's own training schedule."""
        return discrete_schedule(self.alphas_cumprod, num_levels, spacing, self.prediction, self.x0_scale)

    def x0(
        self, predicted: Latents, x: Latents, level: FrameLevels | Int[Tensor, "windows"], schedule: Schedule
    ) -> Latents:
        """Return x0 of what the network says of x; a level a window or a frame."""
        at = schedule.now(level.reshape(len(level), 1, -1, 1, 1))
        return to_x0(predicted, x, at, self.prediction).to(x.dtype)

    def decode(self, latents: LatentFrames, state: Any, last: bool) -> tuple[Pixels, Any]:
        """Decode every frame by itself, a few at a time, unless there is a codec; there is nothing to remember."""
        if self.spec.decoder.tiles:
            return in_tiles(self._decoded, self.spec, latents, state, last)
        return self._decoded(latents, state, last)

    def _decoded(self, latents: LatentFrames, state: Any, last: bool) -> tuple[Pixels, Any]:
        return self.codec.decode(latents) if self.codec else decode_frames(self.pipeline.vae, latents), None

    def encode_frames(self, frames: Pixels) -> LatentFrames:
        """Return the mean of each frame's latents, scaled to unit variance."""
        return self.codec.encode(frames) if self.codec else encode_frames(self.pipeline.vae, frames)


def frame_levels(level: FrameLevels | Int[Tensor, "windows"], x: Latents) -> FrameLevels:
    """Return a level for every frame of x, of one a window or a frame."""
    return level if level.ndim == 2 else level[:, None].expand(x.shape[0], x.shape[2])


def text_states(
    tokenizer: CLIPTokenizer, encoder: CLIPTextModel, prompts: Sequence[str]
) -> Float[Tensor, "prompts tokens width"]:
    """Return the encoder's last states of prompts, cut or padded to the tokenizer's length."""
    # A tokenizer's folder need not name a length; then that of the encoder's positions counts.
    length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    tokens = tokenizer(
        list(prompts),
        padding="max_length",
        max_length=length,
        truncation=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        return encoder(tokens.input_ids.to(encoder.device))[0]
