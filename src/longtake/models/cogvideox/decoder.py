"""The decoder of AutoencoderKLCogVideoX, as a stream: exact in the pieces that the library cuts a video into.

Its convolutions are causal, and the library hands what they remember from piece to piece. But its norms are taken over
a piece, and it doubles frames by whether there is an odd number of them: so what comes depends on where a video is cut.
The library cuts an odd number of latents into 3, 2, 2, ...; so does a stream here, which lets latents wait until their
piece is full. Where the last one is not, copies of its last latent fill it, and what they become is left out.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from longtake.models.cogvideox.spec import FIRST_PIECE, PIECE

IDLE = ("conv_y", "conv_b")
"""Convolutions over one frame, of which the library keeps whole pieces and which it never reads."""


class Stream(NamedTuple):
    """What is between two calls."""

    waiting: Tensor
    """Latents (1, C, F, H, W) of a piece that is not full."""
    remembered: dict[str, Any]
    """The last two frames of what entered every convolution over time, by the names of layers within layers; none
    before the first piece."""

    def to(self, device: torch.device) -> "Stream":
        """Return the same on a device."""
        return Stream(waiting=self.waiting.to(device), remembered=_kept(self.remembered, device))


def decode(vae: Any, latents: Tensor, stream: Stream | None, last: bool) -> tuple[Tensor, Stream]:
    """Return the frames (1, 3, F, H, W) that come of the next latents (1, C, F, H, W), and what there is after them."""
    stream = stream or Stream(waiting=latents[:, :, :0], remembered={})
    waiting, remembered = torch.cat([stream.waiting, latents], dim=2), stream.remembered
    unit = 2 ** (len(vae.config.block_out_channels) - 1)
    decoded = [latents.new_zeros(1, vae.config.out_channels, 0, *(unit * side for side in latents.shape[3:]))]
    while waiting.shape[2] and (last or waiting.shape[2] >= (PIECE if remembered else FIRST_PIECE)):
        piece, waiting = waiting.split_with_sizes(_cut(waiting.shape[2], bool(remembered)), dim=2)
        pixels, remembered = _decoded(vae, piece, remembered)
        decoded.append(pixels)
    return torch.cat(decoded, dim=2), Stream(waiting=waiting.clone(), remembered=remembered)


def _cut(waiting: int, begun: bool) -> list[int]:
    """Return how many latents are the next piece, and how many wait on."""
    first = min(waiting, PIECE if begun else FIRST_PIECE)
    return [first, waiting - first]


def _decoded(vae: Any, piece: Tensor, remembered: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """Return what latents of one piece become, and what is remembered then."""
    stride, count = vae.config.temporal_compression_ratio, piece.shape[2]
    frames = stride * count if remembered else 1 + stride * (count - 1)
    # A video of a single latent is whole by itself.
    is_whole = count == 1 and not remembered
    lacking = 0 if is_whole else (PIECE if remembered else FIRST_PIECE) - count
    full = torch.cat([piece, *[piece[:, :, -1:]] * lacking], dim=2)
    pixels, after = vae.decoder(full, conv_cache=remembered or None)
    return pixels[:, :, :frames], _kept(after, piece.device)


def _kept(remembered: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Return, on a device, what convolutions read of what they have kept."""
    return {
        name: held.to(device) if isinstance(held, Tensor) else _kept(held, device)
        for name, held in remembered.items()
        if name not in IDLE
    }
