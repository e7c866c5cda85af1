"""PVDM as a model: clips in the latent space of three planes, each going on from the one before.

Yu et al., *Video Probabilistic Diffusion Models in Projected Latent Space*, CVPR 2023, arXiv 2302.07685.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longtake.arrays import FrameIndex
from longtake.errors import InputError
from longtake.model import Condition, Continuation, Known, VideoSpec
from longtake.models.hub.configs import Configs
from longtake.models.hub.load import where_run
from longtake.models.image_model import text_states
from longtake.models.pvdm.spec import NUM_TRAIN
from longtake.models.schedules import discrete_schedule
from longtake.schedule import Prediction, Schedule, Spacing, Table, chained, to_x0

Planes = Float[Tensor, "windows channels positions"]
"""Latents of clips: three planes, one after the other; see `Grid.planes`."""
Pixels = Float[Tensor, "frames 3 pixel_height pixel_width"]


class PvdmModel(Continuation):
    """A clip at a time: latents have no axis of frames, so one window of them is `spec.num_frames` frames."""

    def __init__(self, pipeline: Any, spec: VideoSpec, digest: str) -> None:
        """Take an object with the parts `autoencoder`, `unet` and, where that reads text, CLIP's two."""
        self.pipeline, self.spec, self.digest = pipeline, spec, digest
        self.device, self.dtype = where_run(pipeline, pipeline.unet)
        self.reads_text = pipeline.unet.config.text_width is not None

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return the text encoder's states of prompts, (prompts, tokens, width); none for a model without text."""
        if not self.reads_text:
            return Condition({})
        text = text_states(self.pipeline.tokenizer, self.pipeline.text_encoder, prompts)
        return Condition({"text": text.to(self.dtype)})

    def schedule(self, num_levels: int, spacing: Spacing = "trailing") -> Schedule:
        """Return levels of PVDM's training schedule; trailing ones are those of the authors' DDIM sampler."""
        return pvdm_schedule(num_levels, spacing, self.pipeline.unet.config.prediction)

    def denoise(
        self,
        x: Planes,
        level: Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
    ) -> Planes:
        """Return x0 of clips that follow nothing. A clip's prompt is the mean of its frames' prompts."""
        return self._clean(x, level, schedule, condition, prompt_index, None)

    def denoise_after(
        self,
        x: Planes,
        level: Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
        known: Known,
    ) -> Planes:
        """Return x0 of clips that follow known ones."""
        return self._clean(x, level, schedule, condition, prompt_index, known.latents.to(self.dtype))

    def decode(self, latents: Float[Tensor, "channels positions"], state: Any, last: bool) -> tuple[Pixels, Any]:
        """Decode one clip; there is nothing to remember."""
        with torch.inference_mode():
            (clip,) = self.pipeline.autoencoder.decode(latents[None].to(self.dtype))
        return (clip.transpose(0, 1).float() / 2 + 0.5).clamp(0, 1), None

    def encode_frames(self, frames: Pixels) -> Float[Tensor, "channels positions"]:
        """Encode one clip. Raises InputError for another number of frames than a clip has."""
        if len(frames) != self.spec.num_frames:
            raise InputError(f"{self.spec.name} encodes {self.spec.num_frames} frames at once, not {len(frames)}")
        clip = (frames * 2 - 1).to(self.device, self.dtype).transpose(0, 1)
        with torch.inference_mode():
            (latents,) = self.pipeline.autoencoder.encode(clip[None])
        return latents.float()

    def _clean(
        self,
        x: Tensor,
        level: Tensor,
        schedule: Schedule,
        condition: Condition,
        prompt_index: Tensor,
        previous: Tensor | None,
    ) -> Tensor:
        text = condition.rows["text"][prompt_index].mean(dim=1) if self.reads_text else None
        timestep = schedule.timestep[level.cpu()].to(self.device)
        with torch.inference_mode():
            prediction = self.pipeline.unet(x.to(self.dtype), timestep, previous, text)
        now = schedule.now(level[:, None, None])
        return to_x0(prediction, x, now, self.pipeline.unet.config.prediction).to(x.dtype)


def wrap(pipeline: Any, spec: VideoSpec, configs: Configs) -> PvdmModel:
    """Make the parts of a folder a model."""
    return PvdmModel(pipeline, spec, configs.digest())


def alphas_cumprod(num_train: int = NUM_TRAIN) -> Table:
    """Return how much of the clean latent is left at every level of training, cleanest first.

    The square roots of the betas are evenly spaced, from 0.0015 to 0.0195.
    """
    betas = torch.linspace(0.0015**0.5, 0.0195**0.5, num_train, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0)


def pvdm_schedule(
    num_levels: int, spacing: Spacing = "trailing", prediction: Prediction = "epsilon", num_train: int = NUM_TRAIN
) -> Schedule:
    """Return `num_levels` of PVDM's levels; see `discrete_schedule`.

    Trailing timesteps are rounded down, as in the authors' DDIM sampler. Raises InputError where the count does not
    fit.
    """
    bar = alphas_cumprod(num_train)
    if spacing != "trailing":
        return discrete_schedule(bar, num_levels, spacing, prediction)
    if not 1 <= num_levels <= num_train:
        raise InputError(f"{num_levels} noise levels are not possible: the model was trained with {num_train}")
    # In float32, like theirs: the rounding decides where a level falls on a whole number.
    timestep = torch.linspace(-1, num_train - 1, num_levels + 1)[1:].long()
    bar = torch.cat([torch.ones(1, dtype=torch.float64), bar[timestep]])
    return chained(bar.sqrt(), (1 - bar).sqrt(), torch.cat([torch.zeros(1).long(), timestep]))
