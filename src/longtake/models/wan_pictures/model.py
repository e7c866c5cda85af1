"""Wan's transformer on the latents of single pictures: the next embedded model."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from jaxtyping import Int
from torch import Tensor

from longtake.arrays import FrameIndex, FrameLevels, LatentFrames, Latents
from longtake.attention import FrameMixer
from longtake.model import Condition, TemporalHooks, VideoSpec
from longtake.models.hub.configs import Configs
from longtake.models.hub.load import where_run
from longtake.models.image_model import Pixels, decode_frames, encode_frames, text_states
from longtake.models.known_frames import CleanFrames
from longtake.models.wan.attention import mixed_frames
from longtake.models.wan.network import flow_levels, flow_x0, network_dtype
from longtake.models.wan.spec import flow_shift
from longtake.schedule import Schedule, Spacing


class WanPictures(CleanFrames, TemporalHooks):
    """Full attention over time and space, which predicts the flow; every frame of the video has a latent of its own.

    Infill and continuation give good pictures only where the network was trained for them: see `spec.clean_frames`.
    """

    def __init__(self, pipeline: Any, spec: VideoSpec, configs: Configs) -> None:
        self.pipeline, self.spec, self.digest = pipeline, spec, configs.digest()
        self.shift = flow_shift(configs)
        self.device, _ = where_run(pipeline, pipeline.transformer)
        self.dtype = network_dtype(pipeline.transformer)

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return what CLIP's text encoder makes of prompts, cut or padded to the tokenizer's length."""
        states = text_states(self.pipeline.tokenizer, self.pipeline.text_encoder, prompts)
        return Condition({"text": states.to(self.dtype)})

    def schedule(self, num_levels: int, spacing: Spacing = "trailing") -> Schedule:
        """Return levels of a flow with the model's shift. Raises InputError for a spacing other than trailing."""
        return flow_levels(self.spec, num_levels, self.shift, spacing)

    def denoise(
        self,
        x: Latents,
        level: FrameLevels | Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
    ) -> Latents:
        """Return x0; a level a window or a frame, a prompt for every frame."""
        return flow_x0(self.pipeline.transformer, x, level, schedule, condition.rows["text"], prompt_index)

    def mixing(self, mixer: FrameMixer) -> AbstractContextManager[None]:
        """Let `mixer` bring the tokens of all frames together in every layer, inside the context.

        Frames farther apart than those of one call of the network count as its first and last.
        """
        return mixed_frames(self.pipeline.transformer, mixer, self.spec.num_frames - 1)

    def decode(self, latents: LatentFrames, state: Any, last: bool) -> tuple[Pixels, Any]:
        """Decode every frame by itself, a few at a time; there is nothing to remember."""
        return decode_frames(self.pipeline.vae, latents), None

    def encode_frames(self, frames: Pixels) -> LatentFrames:
        """Return the mean of each frame's latents, scaled to unit variance."""
        return encode_frames(self.pipeline.vae, frames)


def wrap(pipeline: Any, spec: VideoSpec, configs: Configs) -> WanPictures:
    """Make the parts a model."""
    return WanPictures(pipeline, spec, configs)
