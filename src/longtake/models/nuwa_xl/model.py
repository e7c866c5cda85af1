"""NUWA-XL's diffusion as a model: keyframes far apart, what lies between two frames, what comes after some.

Yin et al., ACL 2023, arXiv 2303.12346. The same network does all three, told by a mask what is known, and by the stride
at which level of the tree it is.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from longtake.arrays import FrameIndex, Latents
from longtake.model import Condition, Strided, VideoSpec
from longtake.models.hooks import swapped
from longtake.models.hub.configs import Configs
from longtake.models.image_model import Codec, ImageModel
from longtake.models.known_frames import KnownFrames, Mask, nothing_known
from longtake.models.nuwa_xl.spec import OVER_TIME
from longtake.models.nuwa_xl.t_klvae import decode_clips, encode_clips
from longtake.schedule import Schedule


class NuwaXlModel(ImageModel, KnownFrames, Strided):
    """Mask temporal diffusion, an image VAE and CLIP's text encoder."""

    def __init__(self, pipeline: Any, spec: VideoSpec, configs: Configs) -> None:
        super().__init__(pipeline, spec, configs, pipeline.unet)
        self.stride = 1
        if OVER_TIME in configs.parts:
            parts = pipeline.vae, pipeline.vae_over_time
            self.codec = Codec(decode=partial(decode_clips, *parts), encode=partial(encode_clips, *parts))

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return the text encoder's states of prompts, (prompts, tokens, width)."""
        return Condition({"text": self.text_states(prompts).to(self.dtype)})

    @contextmanager
    def strided(self, stride: int) -> Iterator[None]:
        """Say how far apart the frames of every window inside the context lie."""
        with swapped(self, "stride", stride):
            yield

    def denoise_known(
        self,
        x: Latents,
        level: Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
        known: tuple[Latents, Mask] | None,
    ) -> Latents:
        """See KnownFrames."""
        given, mask = known or nothing_known(x)
        timestep = schedule.timestep[level.cpu()].to(self.device)
        stride = torch.full_like(timestep, self.stride)
        text = condition.rows["text"][prompt_index]
        with torch.inference_mode():
            predicted = self.pipeline.unet(x.to(self.dtype), timestep, text, given.to(self.dtype), mask, stride)
        return self.x0(predicted, x, level, schedule)


def wrap(pipeline: Any, spec: VideoSpec, configs: Configs) -> NuwaXlModel:
    """Make the parts of a folder a model."""
    return NuwaXlModel(pipeline, spec, configs)
