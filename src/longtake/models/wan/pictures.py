"""Known frames as Wan's networks are given them: pixels among grey ones, all through the causal autoencoder."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from longtake.arrays import Latents
from longtake.model import Known
from longtake.models.wan.network import Beside

if TYPE_CHECKING:
    from longtake.models.wan.base import WanBase

WindowPixels = Float[Tensor, "windows pixel_frames 3 pixel_height pixel_width"]
GREY = 0.5


class ShownPictures:
    """What a picture-to-video network is shown; that of the last call is kept, since every step asks for the same."""

    def __init__(self, model: "WanBase") -> None:
        self.model = model
        self.last: tuple[Known | None, int, Beside] | None = None

    def beside(self, known: Known | None, x: Latents) -> Beside:
        """Return what goes beside whole windows x: the mask, known frames among grey ones, and what CLIP sees."""
        num_frames = x.shape[2]
        if self.last is None or self.last[0] is not known or self.last[1] != num_frames:
            self.last = known, num_frames, self._beside(known, num_frames)
        kept = self.last[2]
        return kept if len(kept.channels) == len(x) else kept.of([0] * len(x))

    def _beside(self, known: Known | None, num_frames: int) -> Beside:
        model = self.model
        frames, is_known = grey_window(model, known, num_frames)
        # The first frame of the video has a latent of its own, whose mask has room for all the others' frames.
        first = is_known[:1].repeat(model.spec.timing.stride)
        mask = torch.cat([first, is_known[1:]]).view(num_frames, -1).T[None]
        latents = encoded(model, frames)
        spread = mask[..., None, None].to(latents).expand(len(latents), -1, -1, *latents.shape[3:])
        return Beside(channels=torch.cat([spread, latents], dim=1), pictures=self._seen(frames, is_known))

    def _seen(self, frames: WindowPixels, is_known: Tensor) -> Tensor | None:
        """Return what CLIP sees in the known pictures, (windows, pictures, tokens, width); None without CLIP."""
        pipeline, config = self.model.pipeline, self.model.pipeline.transformer.config
        if config.image_dim is None:
            return None
        ends = [0, -1] if config.pos_embed_seq_len is not None else [0]
        pictures = frames[:, ends].flatten(0, 1).mul(255).round().to(torch.uint8).cpu()
        given: Any = pipeline.image_processor(images=list(pictures), return_tensors="pt")
        with torch.inference_mode():
            states = pipeline.image_encoder(given.pixel_values.to(self.model.device), output_hidden_states=True)
        return states.hidden_states[-2].to(self.model.dtype).unflatten(0, (len(frames), -1))


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
