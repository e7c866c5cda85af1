"""What models share whose latents go frame by frame through an image autoencoder, with the noise levels of a DDPM."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from longtake.arrays import FrameLevels, LatentFrames, Latents
from longtake.model import VideoModel, VideoSpec
from longtake.models.clip_text import text_states
from longtake.models.hub.configs import Configs
from longtake.models.hub.load import levels_of, where_run
from longtake.models.image_vae import Pixels, decode_frames, encode_frames
from longtake.models.schedules import discrete_schedule
from longtake.schedule import Prediction, Schedule, Spacing, Table, to_x0


class ImageModel(VideoModel):
    """A pipeline with an image autoencoder and a scheduler; what its network does and reads is the family's."""

    alphas_cumprod: Table
    prediction: Prediction
    x0_scale: Table | None = None
    """What training multiplied x0 by at every timestep."""

    def __init__(self, pipeline: Any, spec: VideoSpec, configs: Configs, network: Any, told: str = "") -> None:
        """Take a pipeline as it is; `network` is the part that denoises, `told` is for the digest."""
        self.pipeline, self.spec, self.digest = pipeline, spec, configs.digest(told)
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
        """Decode every frame by itself, a few at a time; there is nothing to remember."""
        return decode_frames(self.pipeline.vae, latents), None

    def encode_frames(self, frames: Pixels) -> LatentFrames:
        """Return the mean of each frame's latents, scaled to unit variance."""
        return encode_frames(self.pipeline.vae, frames)


def frame_levels(level: FrameLevels | Int[Tensor, "windows"], x: Latents) -> FrameLevels:
    """Return a level for every frame of x, of one a window or a frame."""
    return level if level.ndim == 2 else level[:, None].expand(x.shape[0], x.shape[2])
