"""The decoder of LTX-Video and LTX-2, a few latents at a time: delay lines in its own layers.

It is not causal: every convolution over time looks one frame ahead. So each keeps the last two frames that it was given
and answers for all but the newest; what goes past convolutions, by a shortcut, waits for what comes out of them; and
the end of the video puts a copy of the last frame after it, layer by layer. The modules are those of diffusers; only
the order in which they are called is written here. Checked against the library's decoding of whole videos.

Shapes: 1 video, C channels, F frames, H height, W width.
"""

from collections.abc import Iterator
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_ltx2 import PerChannelRMSNorm
from torch import Tensor

from longtake.noise import seeded_noise


class DelayLines:
    """What the layers remember, in the order in which they ask for it, and whether the video ends with this call."""

    def __init__(self, kept: list[Any] | None, last: bool, causal: bool) -> None:
        self.is_start, self.last, self.causal = kept is None, last, causal
        self.before: Iterator[Any] = iter(kept or ())
        self.after: list[Any] = []

    def _before(self) -> Any:
        return None if self.is_start else next(self.before)

    def convolved(self, layer: Any, x: Tensor) -> Tensor:
        """Return the frames for which a convolution over time has now seen enough."""
        size = layer.kernel_size[0]
        if size == 1:
            return layer(x) if x.shape[2] else x.new_zeros(1, layer.out_channels, *x.shape[2:])
        kept, ahead = self._before(), 0 if self.causal else size // 2
        if kept is None and x.shape[2]:
            kept = x[:, :, :1].repeat(1, 1, size - 1 - ahead, 1, 1)
        seen = x if kept is None else torch.cat([kept, x], dim=2)
        if self.last:
            seen = torch.cat([seen, seen[:, :, -1:].repeat(1, 1, ahead, 1, 1)], dim=2)
        is_enough = seen.shape[2] >= size
        self.after.append(None if kept is None else seen[:, :, -(size - 1) :].clone())
        return layer.conv(seen) if is_enough else x.new_zeros(1, layer.out_channels, 0, *x.shape[3:])

    def waited(self, x: Tensor, count: int) -> Tensor:
        """Let frames wait; return the `count` that have waited longest."""
        kept = self._before()
        queue = x if kept is None else torch.cat([kept, x], dim=2)
        self.after.append(queue[:, :, count:].clone())
        return queue[:, :, :count]

    def without_first(self, x: Tensor, count: int) -> Tensor:
        """Return frames without the first `count` of the video."""
        begun = bool(self._before())
        self.after.append(begun or x.shape[2] > 0)
        return x if begun else x[:, :, count:]


def decode(vae: Any, latents: Tensor, kept: list[Any] | None, last: bool) -> tuple[Tensor, list[Any]]:
    """Return the frames (1, 3, F, H, W) that come of the next latents (1, C, F, H, W), and what the layers of the
    autoencoder's decoder remember.

    A decoder that is conditioned on a noise level is told 0, and is given no noise, as the stock pipeline does by
    default.
    """
    decoder, lines = vae.decoder, DelayLines(kept, last, vae.config.decoder_causal)
    time = None if decoder.timestep_scale_multiplier is None else latents.new_zeros(1)
    x = lines.convolved(decoder.conv_in, latents)
    for number, block in enumerate((decoder.mid_block, *decoder.up_blocks)):
        x = _block(block, x, time, lines, number)
    x = _normed(decoder.norm_out, x)
    if time is not None:
        embedded = _embedded(decoder.time_embedder, time, x).unflatten(1, (2, -1))
        shift, scale = (embedded + decoder.scale_shift_table[None, ..., None, None, None]).unbind(1)
        x = x * (1 + scale) + shift
    x = lines.convolved(decoder.conv_out, decoder.conv_act(x))
    side = decoder.patch_size
    _, channels, frames, height, width = x.shape
    patches = x.view(1, channels // side**2, side, side, frames, height, width).permute(0, 1, 4, 5, 3, 6, 2)
    return patches.reshape(1, channels // side**2, frames, height * side, width * side), lines.after


def _block(block: Any, x: Tensor, time: Tensor | None, lines: DelayLines, number: int) -> Tensor:
    """Return what the middle block, or one that makes frames larger, gives."""
    entry, upsamplers = getattr(block, "conv_in", None), getattr(block, "upsamplers", None)
    if entry is not None:
        x = _resnet(entry, x, time, lines, (number, -1))
    modulation = None if block.time_embedder is None or time is None else _embedded(block.time_embedder, time, x)
    for upsampler in upsamplers or ():
        x = _doubled(upsampler, x, lines)
    for place, resnet in enumerate(block.resnets):
        x = _resnet(resnet, x, modulation, lines, (number, place))
    return x


def _resnet(layer: Any, x: Tensor, modulation: Tensor | None, lines: DelayLines, name: tuple[int, int]) -> Tensor:
    hidden, shifts = x, [(None, None)] * 2
    if layer.scale_shift_table is not None and modulation is not None:
        table = modulation.unflatten(1, (4, -1)) + layer.scale_shift_table[None, ..., None, None, None]
        shift_1, scale_1, shift_2, scale_2 = table.unbind(1)
        shifts = [(shift_1, scale_1), (shift_2, scale_2)]
    halves = (
        (layer.norm1, layer.conv1, layer.per_channel_scale1),
        (layer.norm2, layer.conv2, layer.per_channel_scale2),
    )
    for half, ((norm, convolution, noisiness), (shift, scale)) in enumerate(zip(halves, shifts, strict=True)):
        hidden = _normed(norm, hidden)
        if shift is not None and scale is not None:
            hidden = hidden * (1 + scale) + shift
        hidden = lines.convolved(convolution, layer.nonlinearity(hidden))
        if noisiness is not None:
            # The library draws it anew in every call, the same for all frames; by name it does not hang on the calls.
            noise = seeded_noise(0)(tuple(hidden.shape[-2:]), "decoder", *name, half).to(hidden)
            hidden = hidden + (noise[None] * noisiness)[None, :, None]
    shortcut = lines.waited(x, hidden.shape[2])
    if layer.norm3 is not None:
        shortcut = _normed(layer.norm3, shortcut)
    return hidden + (shortcut if layer.conv_shortcut is None else lines.convolved(layer.conv_shortcut, shortcut))


def _normed(norm: Any, x: Tensor) -> Tensor:
    return norm(x) if isinstance(norm, PerChannelRMSNorm) else norm(x.movedim(1, -1)).movedim(-1, 1)


def _doubled(layer: Any, x: Tensor, lines: DelayLines) -> Tensor:
    """Return twice as many frames, twice as high and wide, or one of these; doubled over time the first comes once."""
    spread = _spread(lines.convolved(layer.conv, x), layer.stride)
    if layer.residual:
        frames = spread.shape[2] // layer.stride[0]
        shortcut = _spread(lines.waited(x, frames), layer.stride)
        spread = spread + shortcut.repeat(1, spread.shape[1] // shortcut.shape[1], 1, 1, 1)
    return lines.without_first(spread, layer.stride[0] - 1)


def _spread(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """Turn groups of channels into neighbouring frames, rows and columns."""
    _, channels, frames, height, width = x.shape
    over_time, over_rows, over_columns = stride
    grouped = x.view(1, channels // (over_time * over_rows * over_columns), *stride, frames, height, width)
    return grouped.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)


def _embedded(embedder: Any, time: Tensor, x: Tensor) -> Tensor:
    answer = embedder(time.flatten(), resolution=None, aspect_ratio=None, batch_size=1, hidden_dtype=x.dtype)
    return answer.view(1, -1, 1, 1, 1)
