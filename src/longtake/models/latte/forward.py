"""Latte's forward pass with a noise level and a text per frame, and with frames that meet in a FrameMixer.

The modules are those of diffusers; only the order in which they are called is written here, because the library's own
forward repeats one timestep and one text over the frames. Checked against it.

Shapes: B windows, F frames, P patches of a frame, D width, T tokens of text.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import LatteTransformer3DModel
from diffusers.models.embeddings import get_1d_sincos_pos_embed_from_grid
from jaxtyping import Float, Int
from torch import Tensor

from longtake.arrays import Latents
from longtake.attention import FrameMixer, attention

Text = Float[Tensor, "windows_x_frames tokens text_width"]
Weight = Float[Tensor, "windows_x_frames tokens"]
Output = Float[Tensor, "windows out_channels frames height width"]
Positions = Float[Tensor, "frames width"]


def predict(
    transformer: LatteTransformer3DModel,
    x: Latents,
    timestep: Int[Tensor, "windows frames"],
    text: Text,
    weight: Weight,
    mixer: FrameMixer | None,
) -> Output:
    """Return what the network predicts.

    `text` has a row per frame, already projected; `weight` says how much a token counts, from 0 to 1.
    """
    network: Any = transformer
    num_windows, _, num_frames, height, width = x.shape
    frames = network.pos_embed(x.transpose(1, 2).flatten(0, 1))
    modulation, embedded = network.adaln_single(timestep.flatten(), hidden_dtype=frames.dtype)
    places = mixer.places() if mixer else [(i, num_frames) for i in range(num_frames)]
    positions = frame_positions(places, network.config.video_length, frames.shape[-1]).to(frames)
    # exp(log w) = w: a token of weight 0 is not there, one of weight 1/2 counts half.
    bias = weight[:, None].log().clamp(min=torch.finfo(weight.dtype).min)
    for i, (spatial, temporal) in enumerate(
        zip(network.transformer_blocks, network.temporal_transformer_blocks, strict=True)
    ):
        frames = spatial(frames, None, text, bias, modulation)
        sequences_BFPD = frames.unflatten(0, (num_windows, num_frames))
        if i == 0:
            sequences_BFPD = sequences_BFPD + positions[:, None]
        frames = _over_time(temporal, sequences_BFPD, modulation, mixer).flatten(0, 1)
    shift, scale = (network.scale_shift_table + embedded[:, None]).chunk(2, dim=1)
    patches = network.proj_out(network.norm_out(frames) * (1 + scale) + shift)
    side = network.config.patch_size
    pixels = patches.view(num_windows, num_frames, height // side, width // side, side, side, network.out_channels)
    return pixels.permute(0, 6, 1, 2, 4, 3, 5).reshape(num_windows, -1, num_frames, height, width)


def frame_positions(places: Sequence[tuple[int, int]], trained: int, width: int) -> Positions:
    """Return the position embedding of every frame, from its place in its clip and the clip's length.

    Where a clip is longer than the `trained` number of frames, its frames are spread evenly over the trained range, at
    fractions of a position. A clip of one frame has none.
    """
    grid = [place * min(1.0, (trained - 1) / max(length - 1, 1)) for place, length in places]
    table = get_1d_sincos_pos_embed_from_grid(width, torch.tensor(grid, dtype=torch.float64))
    return table * torch.tensor([length > 1 for _, length in places])[:, None]


def _over_time(
    block: Any,
    frames_BFPD: Float[Tensor, "windows frames patches width"],
    modulation: Float[Tensor, "windows_x_frames six_widths"],
    mixer: FrameMixer | None,
) -> Float[Tensor, "windows frames patches width"]:
    """Run a BasicTransformerBlock over the frames of each patch, modulated frame by frame (adaLN-single)."""
    num_windows, num_frames, num_patches, width = frames_BFPD.shape
    x = frames_BFPD.transpose(1, 2).flatten(0, 1)
    given = modulation.view(num_windows, 1, num_frames, 6, width) + block.scale_shift_table
    shift, scale, gate, ff_shift, ff_scale, ff_gate = (
        given.expand(-1, num_patches, -1, -1, -1).flatten(0, 1).unbind(dim=2)
    )
    layer = block.attn1
    hidden = block.norm1(x) * (1 + scale) + shift
    key, value = (project(hidden).unflatten(-1, (layer.heads, -1)) for project in (layer.to_k, layer.to_v))
    if mixer is None:
        mixed = attention(layer.to_q(hidden).unflatten(-1, (layer.heads, -1)), key, value)
    else:
        attend = mixer.attend(key, value)
        mixed = attend(layer.to_q(hidden).unflatten(-1, (layer.heads, -1)))
    x = x + gate * layer.to_out[0](mixed.flatten(2))
    x = x + ff_gate * block.ff(block.norm2(x) * (1 + ff_scale) + ff_shift)
    return x.unflatten(0, (num_windows, num_patches)).transpose(1, 2)
