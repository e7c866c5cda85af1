"""AnimateDiff with SparseCtrl: an image model with motion modules, told of known frames by a control network.

Guo et al., 2023, arXiv 2307.04725 and 2311.16933. The control network is given the known frames and a mask of where
they are, as NUWA-XL's own network is, so it fills the gap between two frames without training for it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from longtake.arrays import FrameIndex, Latents
from longtake.model import Condition, VideoSpec
from longtake.models.hub.configs import Configs
from longtake.models.image_model import ImageModel
from longtake.models.known_frames import KnownFrames, Mask
from longtake.schedule import Schedule


class SparseCtrlModel(ImageModel, KnownFrames):
    """A UNet with motion modules, a control network, an image VAE and CLIP's text encoder. A prompt for every frame."""

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return the text encoder's states of prompts, (prompts, tokens, width)."""
        return Condition({"text": self.text_states(prompts).to(self.dtype)})

    def denoise_known(
        self,
        x: Latents,
        level: Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
        given: Latents,
        mask: Mask,
    ) -> Latents:
        """Return x0 of windows; `given` holds clean latents where `mask` is 1, and zeros elsewhere."""
        timestep = schedule.timestep[level.cpu()].to(self.device)
        # The library's networks take a text for every frame, the frames of all windows one after the other.
        text = condition.rows["text"][prompt_index.to(self.device)].flatten(0, 1)
        noisy = x.to(self.dtype)
        with torch.inference_mode():
            control = self._control(noisy, timestep, text, given.to(self.dtype), mask.to(self.dtype))
            (predicted,) = self.pipeline.unet(noisy, timestep, text, **control, return_dict=False)
        return self.x0(predicted, x, level, schedule)

    def _control(self, x: Latents, timestep: Tensor, text: Tensor, known: Latents, mask: Mask) -> dict[str, Any]:
        """Return what the control network adds inside the UNet; nothing where nothing is known, as in AnimateDiff."""
        if not mask.any():
            return {}
        where = mask[:, None, :, None, None].expand(-1, 1, -1, *x.shape[3:])
        down, middle = self.pipeline.controlnet(
            x, timestep, text, controlnet_cond=known, conditioning_mask=where, return_dict=False
        )
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}


def wrap(pipeline: Any, spec: VideoSpec, configs: Configs) -> SparseCtrlModel:
    """Make a pipeline a model."""
    return SparseCtrlModel(pipeline, spec, configs, pipeline.unet)
