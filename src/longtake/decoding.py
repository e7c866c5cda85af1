"""Latents to 8-bit pixels, as a stream that can be left and taken up again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longtake.arrays import Frames, LatentFrames
from longtake.finite import ADVICE, check_finite
from longtake.model import VideoModel, VideoSpec

PREFIX = "decoder."


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """How far a stream of latents is decoded. As it is made, at its start."""

    memory: Any = None
    """What the model's decoder remembers; gigabytes in some, so it is never stored. None at the start, and in a stream
    that is taken up again: then `latents` bring it back."""
    latents: LatentFrames | None = None
    """The last latents, as many as the model's spec says rebuild the memory; None where that is no use."""
    frames: int = 0
    """Pixel frames that came so far."""


def decode_pixels(
    model: VideoModel, latents: LatentFrames, decoder: Decoder, last: bool, truncate: bool = False
) -> tuple[np.ndarray, Decoder]:
    """Decode the next latents of a stream to uint8 (frames, height, width, 3); see VideoModel.decode for `last`.

    `decoder` must not be used again: that is what the one returned is for. Raises NonFiniteError for latents or pixels
    that are infinite or no numbers.
    """
    check_finite({"the latent that the network made": latents}, "before decoding", ADVICE)
    memory = decoder.memory
    if memory is None and decoder.latents is not None:
        _, memory = model.decode(decoder.latents, None, last=False)
    frames, memory = model.decode(latents, memory, last)
    kept = _last_latents(model.spec, decoder.latents, latents)
    return to_uint8(frames, truncate), Decoder(memory=memory, latents=kept, frames=decoder.frames + len(frames))


def decode_clip(model: VideoModel, latents: LatentFrames, truncate: bool = False) -> np.ndarray:
    """Decode all latents of a video at once to uint8 (frames, height, width, 3)."""
    return decode_pixels(model, latents, Decoder(), last=True, truncate=truncate)[0]


def to_uint8(frames: Frames, truncate: bool = False) -> np.ndarray:
    """Turn pixels in [0, 1] into uint8 (frames, height, width, 3), rounded to nearest unless truncated.

    Raises NonFiniteError for pixels that are infinite or no numbers: 8 bits would show them as black.
    """
    check_finite({"the picture that the decoder made": frames}, "after decoding", ADVICE)
    scaled = frames.clamp(0, 1).mul(255)
    scaled = scaled.floor() if truncate else scaled.round()
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def pack_decoder(decoder: Decoder) -> dict[str, Tensor]:
    """Return what takes up a stream again, under names that do not meet the sampler's own."""
    kept = {} if decoder.latents is None else {PREFIX + "latents": decoder.latents}
    return {PREFIX + "frames": torch.tensor(decoder.frames), **kept}


def unpack_decoder(model: VideoModel, saved: Mapping[str, Tensor]) -> Decoder:
    """Return the decoder that `pack_decoder` put among a sampler's state, on the model's device.

    Its memory comes back with the next latents, so that a process which decodes nothing needs no room for it.
    """
    latents = saved.get(PREFIX + "latents")
    kept = None if latents is None else latents.to(model.device)
    return Decoder(latents=kept, frames=int(saved[PREFIX + "frames"]))


def _last_latents(spec: VideoSpec, before: LatentFrames | None, new: LatentFrames) -> LatentFrames | None:
    """Return the last latents of a stream, as many as bring back what is remembered of it: a copy that holds no others
    in memory. Whole pieces of the decoder are left out, so that it cuts what follows as it did."""
    if not spec.decoder_history:
        return None
    known = new if before is None else torch.cat([before, new], dim=1)
    spare = max(0, known.shape[1] - spec.decoder_history)
    return known[:, spare // spec.decoder_piece * spec.decoder_piece :].clone()
