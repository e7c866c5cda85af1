"""Latents to 8-bit pixels, as a stream."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longtake.arrays import Frames, LatentFrames
from longtake.model import VideoModel

PREFIX = "decoder."


def decode_pixels(
    model: VideoModel, latents: LatentFrames, state: Any, truncate: bool = False
) -> tuple[np.ndarray, Any]:
    """Decode the next latents of a video to uint8 (frames, height, width, 3); see VideoModel.decode for `state`."""
    frames, state = model.decode(latents, state)
    return to_uint8(frames, truncate), state


def to_uint8(frames: Frames, truncate: bool = False) -> np.ndarray:
    """Turn pixels in [0, 1] into uint8 (frames, height, width, 3), rounded to nearest unless truncated."""
    scaled = frames.clamp(0, 1).mul(255)
    scaled = scaled.floor() if truncate else scaled.round()
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def pack_decoder(state: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Return a decoder's state under names that do not meet the sampler's own."""
    return {PREFIX + name: tensor for name, tensor in (state or {}).items()}


def unpack_decoder(saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the decoder's state from what `pack_decoder` put among a sampler's."""
    return {name.removeprefix(PREFIX): tensor for name, tensor in saved.items() if name.startswith(PREFIX)}
