"""Known frames as Wan's networks are given them: pixels among grey ones, all through the causal autoencoder."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from longtake.arrays import Latents
from longtake.model import Known
from longtake.models.wan.network import Beside

if TYPE_CHECKING:
    from longtake.models.wan.base import WanBase

WindowPixels = Float[Tensor, "windows pixel_frames 3 pixel_height pixel_width"]
GREY = 0.5


def picture_channels(model: "WanBase", known: Known | None, num_frames: int) -> Beside:
    """Return what a picture-to-video network is given: a mask, 1 where pixel frames are known, these among grey ones,
    and what CLIP sees."""
    frames, is_known = grey_window(model, known, num_frames)
    # The first frame of the video has a latent of its own, whose mask has room for all the others' frames.
    first = is_known[:1].repeat(model.spec.timing.stride)
    mask = torch.cat([first, is_known[1:]]).view(num_frames, -1).T[None]
    latents = encoded(model, frames)
    spread = mask[..., None, None].to(latents).expand(len(latents), -1, -1, *latents.shape[3:])
    return Beside(channels=torch.cat([spread, latents], dim=1), pictures=_seen(model, frames))


def vace_control(model: "WanBase", known: Known | None, num_frames: int) -> Beside:
    """Return what VACE is given: known frames among grey ones, nothing but grey for those to make anew, and a mask, 1
    where a frame is to be made, a channel for every pixel of a latent's cell."""
    frames, is_known = grey_window(model, known, num_frames)
    kept = encoded(model, frames)
    grey = encoded(model, torch.full_like(frames[:1], GREY)).expand_as(kept)
    # The stock pipeline asks one pixel frame of every latent, in the middle of those that share it out evenly.
    wanted = functional.interpolate((~is_known).to(kept)[None, None], size=num_frames, mode="nearest-exact")
    cell = (frames.shape[3] // kept.shape[3]) ** 2
    mask = wanted[..., None, None].expand(len(kept), cell, -1, *kept.shape[3:])
    return Beside(control=torch.cat([kept, grey, mask], dim=1))


def _seen(model: "WanBase", frames: WindowPixels) -> Tensor | None:
    """Return what CLIP sees in the first frames of windows, or in both ends, (windows, pictures, tokens, width); None
    without CLIP."""
    pipeline, config = model.pipeline, model.pipeline.transformer.config
    if config.image_dim is None:
        return None
    ends = [0, -1] if config.pos_embed_seq_len is not None else [0]
    pictures = frames[:, ends].flatten(0, 1).mul(255).round().to(torch.uint8).cpu()
    given: Any = pipeline.image_processor(images=list(pictures), return_tensors="pt")
    with torch.inference_mode():
        states = pipeline.image_encoder(given.pixel_values.to(model.device), output_hidden_states=True)
    return states.hidden_states[-2].to(model.dtype).unflatten(0, (len(frames), -1))


def grey_window(model: "WanBase", known: Known | None, num_frames: int) -> tuple[WindowPixels, Tensor]:
    """Return the pixels of windows of so many latent frames, grey where they are not known, and for every pixel frame
    whether it is known. Known frames without places are the first ones."""
    spec = model.spec
    length = spec.timing.pixel_frames(num_frames)
    is_known = torch.zeros(length, dtype=torch.bool, device=model.device)
    if known is None:
        return torch.full((1, length, 3, spec.height, spec.width), GREY, device=model.device), is_known
    assert known.pixels is not None
    places: Sequence[int] = list(known.places) or range(known.pixels.shape[1])
    frames = torch.full((len(known.pixels), length, 3, spec.height, spec.width), GREY, device=model.device)
    frames[:, places], is_known[list(places)] = known.pixels.to(frames), True
    return frames, is_known


def encoded(model: "WanBase", frames: WindowPixels) -> Latents:
    """Return the latents of windows of pixels."""
    return torch.stack([model.encode_frames(window) for window in frames])
