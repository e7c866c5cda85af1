"""Wan's transformer on the latents of single pictures: the next embedded model."""

from collections.abc import Sequence
from typing import Any

from longtake.arrays import LatentFrames
from longtake.model import Condition, VideoSpec
from longtake.models.hub.configs import Configs
from longtake.models.hub.load import where_run
from longtake.models.image_model import Pixels, decode_frames, encode_frames, text_states
from longtake.models.known_frames import CleanFrames
from longtake.models.wan.model import WanModel
from longtake.models.wan.spec import flow_shift


class WanPictures(WanModel, CleanFrames):
    """Full attention over time and space, which predicts the flow; every frame of the video has a latent of its own.

    Infill and continuation give good pictures only where the network was trained for them: see `spec.clean_frames`.
    """

    def __init__(self, pipeline: Any, spec: VideoSpec, configs: Configs) -> None:
        self.pipeline, self.spec, self.digest = pipeline, spec, configs.digest()
        self.shift = flow_shift(configs)
        self.device, _ = where_run(pipeline, pipeline.transformer)
        # Some of its other layers stay in float32.
        self.dtype = pipeline.transformer.patch_embedding.weight.dtype

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return what CLIP's text encoder makes of prompts, cut or padded to the tokenizer's length."""
        states = text_states(self.pipeline.tokenizer, self.pipeline.text_encoder, prompts)
        return Condition({"text": states.to(self.dtype)})

    def decode(self, latents: LatentFrames, state: Any, last: bool) -> tuple[Pixels, Any]:
        """Decode every frame by itself, a few at a time; there is nothing to remember."""
        return decode_frames(self.pipeline.vae, latents), None

    def encode_frames(self, frames: Pixels) -> LatentFrames:
        """Return the mean of each frame's latents, scaled to unit variance."""
        return encode_frames(self.pipeline.vae, frames)


def wrap(pipeline: Any, spec: VideoSpec, configs: Configs) -> WanPictures:
    """Make the parts a model."""
    return WanPictures(pipeline, spec, configs)
