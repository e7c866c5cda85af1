"""Stable Video Diffusion: a clip from one picture, without text (Blattmann et al., 2023, arXiv 2311.15127).

A UNet that is shown the picture in channels beside the noise, and as CLIP sees it; a picture's autoencoder whose
decoder looks at all frames of a window. Its noise is unbounded (x0 + s eps, as Karras et al., 2022, have it); here it
is scaled to alpha^2 + sigma^2 = 1 as the network is given it, so that DDIM's step is Euler's.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from longtake.arrays import FrameIndex, LatentFrames, Latents
from longtake.errors import InputError
from longtake.model import Condition, Continuation, Known, VideoSpec
from longtake.models.hub.configs import Configs
from longtake.models.hub.load import where_run
from longtake.models.image_model import Pixels, encode_frames
from longtake.models.known_frames import LastShown, whole_window
from longtake.models.svd.spec import last_guidance
from longtake.noise import seeded_noise
from longtake.schedule import Schedule, Spacing, chained, to_x0

AUGMENTATION = 0.02
"""Share of noise in the picture that the network is shown, which it is told."""
MOTION = 127
"""How much is to move, from 1 to 255; both are the stock pipeline's."""


class SvdModel(Continuation):
    """Goes on from a picture: guidance is between the picture and none, and rises from 1 at a window's first frame."""

    def __init__(self, pipeline: Any, spec: VideoSpec, configs: Configs) -> None:
        self.pipeline, self.spec, self.digest = pipeline, spec, configs.digest()
        self.device, self.dtype = where_run(pipeline, pipeline.unet)
        self.last_guidance = last_guidance(configs)
        self.last_shown: LastShown[tuple[Tensor, Tensor]] = LastShown()

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return nothing: there is no text."""
        return Condition({})

    def schedule(self, num_levels: int, spacing: Spacing = "trailing") -> Schedule:
        """Return the levels of the stock pipeline. Raises InputError for a spacing other than trailing."""
        if spacing != "trailing":
            raise InputError(f"{self.spec.name} has no spacing {spacing!r}, its levels are its own; use trailing")
        scheduler = deepcopy(self.pipeline.scheduler)
        scheduler.set_timesteps(num_levels)
        noise, timestep = scheduler.sigmas.double().flip(0), scheduler.timesteps.float().flip(0)
        alpha = (1 + noise**2).rsqrt()
        return chained(alpha, noise * alpha, torch.cat([timestep[:1], timestep]))

    def denoise(
        self,
        x: Latents,
        level: Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
    ) -> Latents:
        """Return x0 of windows that are shown no picture, as guidance has them."""
        return self._x0(x, level, schedule, *self._nothing(len(x)))

    def denoise_after(
        self,
        x: Latents,
        level: Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
        known: Known,
    ) -> Latents:
        """Return x0 of the frames x that follow known ones, of which the first is shown; guided."""
        window, _ = whole_window(x, level, schedule, prompt_index, known)
        return self.after_picture(window, level, schedule, known)[:, :, known.latents.shape[2] :]

    def after_picture(self, x: Latents, level: Int[Tensor, "windows"], schedule: Schedule, known: Known) -> Latents:
        """Return x0 of whole windows that begin with a picture; guided."""
        shown = self._shown(known)
        if self.last_guidance <= 1:
            return self._x0(x, level, schedule, *shown)
        both = [torch.cat(parts) for parts in zip(self._nothing(len(x)), shown, strict=True)]
        blind, seeing = self._x0(x.repeat(2, 1, 1, 1, 1), level.repeat(2), schedule, *both).chunk(2)
        scale = torch.linspace(1, self.last_guidance, x.shape[2]).to(x)[:, None, None]
        return blind + scale * (seeing - blind)

    def decode(self, latents: LatentFrames, state: Any, last: bool) -> tuple[Pixels, Any]:
        """Decode windows together, as the network makes them; `state` has all latents so far, and nothing comes before
        the last one is there."""
        held = latents if state is None else torch.cat([state, latents], dim=1)
        if not last:
            return torch.zeros(0, 3, self.spec.height, self.spec.width, device=self.device), held
        vae: Any = self.pipeline.vae
        scaled = (held.to(self.device, vae.dtype) / vae.config.scaling_factor).transpose(0, 1)
        with torch.inference_mode():
            parts = [vae.decode(part, num_frames=len(part)).sample for part in scaled.split(self.spec.num_frames)]
        return (torch.cat(parts).float() / 2 + 0.5).clamp(0, 1), held

    def encode_frames(self, frames: Pixels) -> LatentFrames:
        """Return the mean of each frame's latents, scaled to unit variance."""
        return encode_frames(self.pipeline.vae, frames)

    def _x0(self, x: Latents, level: Tensor, schedule: Schedule, picture: Tensor, seen: Tensor) -> Latents:
        beside = picture[:, :, None].expand(-1, -1, x.shape[2], -1, -1)
        given = torch.cat([x.to(self.dtype), beside], dim=1).transpose(1, 2)
        # The authors count frames a second from 0.
        told = torch.tensor([self.spec.fps - 1, MOTION, AUGMENTATION], dtype=self.dtype, device=self.device)
        timestep = schedule.timestep[level.cpu()].to(self.device)
        with torch.inference_mode():
            (v,) = self.pipeline.unet(given, timestep, seen, added_time_ids=told.expand(len(x), -1), return_dict=False)
        at = schedule.now(level[:, None, None, None, None])
        return to_x0(v.transpose(1, 2), x, at, "v_prediction").to(x.dtype)

    def _nothing(self, windows: int) -> tuple[Tensor, Tensor]:
        channels, _, height, width = self.spec.latent_shape
        numbers = self.pipeline.image_encoder.config.projection_dim
        picture = torch.zeros(windows, channels, height, width, dtype=self.dtype, device=self.device)
        return picture, picture.new_zeros(windows, 1, numbers)

    def _shown(self, known: Known) -> tuple[Float[Tensor, "windows ..."], Float[Tensor, "windows 1 width"]]:
        """Return what the network is shown of the first known frame: latents, and what CLIP sees."""
        assert known.pixels is not None
        first = known.pixels[:, 0]
        return self.last_shown.of(known, 1, lambda: self._encoded(first))

    def _encoded(self, pictures: Float[Tensor, "windows 3 height width"]) -> tuple[Tensor, Tensor]:
        vae: Any = self.pipeline.vae
        noise = seeded_noise(0)(tuple(pictures.shape[1:]), "picture").to(pictures)
        grainy = (pictures * 2 - 1 + AUGMENTATION * noise).to(self.device, vae.dtype)
        eight_bit = pictures.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        with torch.inference_mode():
            latents = vae.encode(grainy).latent_dist.mode()
            seen = self.pipeline._encode_image(
                [Image.fromarray(picture) for picture in eight_bit], self.device, 1, False
            )
        return latents.to(self.dtype), seen.to(self.dtype)


def wrap(pipeline: Any, spec: VideoSpec, configs: Configs) -> SvdModel:
    """Make a pipeline a model."""
    return SvdModel(pipeline, spec, configs)
