"""What takes the place of layers of LTXVideoTransformer3DModel for a call: a text per frame, mixing by others.

LTX attends over all tokens of all frames at once, with rotary positions in seconds and pixels (HaCohen et al., 2024,
arXiv 2501.00103). Only the part for time depends on which frame a token is in, and only through differences of times:
queries can stay at time 0 while keys are turned by their frame's offset.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.models.transformers.transformer_ltx import LTXAttention, LTXVideoRotaryPosEmbed, apply_rotary_emb
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from longtake.attention import FrameMixer, Rotate, attention
from longtake.models.hooks import attended_by_row, frames_by_row, swapped, turned

Keys = Float[Tensor, "sequences frames_x_tokens heads headwidth"]


@dataclass(frozen=True)
class FrameText:
    """Attention processor of the layers for text: every frame attends to its own."""

    text: Float[Tensor, "texts tokens width"]
    """Projected."""
    valid: Bool[Tensor, "texts tokens"]
    """Which of its tokens count."""
    frames: Sequence[Int[Tensor, "_frames"]]
    """See `frames_by_row`."""

    def __call__(self, attn: LTXAttention, hidden_states: Tensor, *_: Any) -> Tensor:
        """Return what the layer adds to (windows, frames x tokens, channels)."""
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))

        def attend(asked: Tensor, row: int) -> Tensor:
            text = self.text[row][None, self.valid[row]]
            key, value = attn.norm_k(attn.to_k(text)), attn.to_v(text)
            return attention(asked, key.unflatten(2, (attn.heads, -1)), value.unflatten(2, (attn.heads, -1)))

        return attn.to_out[0](attended_by_row(query, self.frames, attend))


@dataclass(frozen=True)
class MixedFrames:
    """Attention processor of the layers over all tokens, which lets a mixer bring keys and queries together."""

    mixer: FrameMixer
    rotate: Rotate
    tokens: int
    """Of a frame."""

    def __call__(
        self,
        attn: LTXAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None,
        attention_mask: Tensor | None,
        image_rotary_emb: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Return what the layer adds. `image_rotary_emb` is that of `AtOneTime`."""

        def headed(x: Tensor) -> Tensor:
            return x.unflatten(2, (attn.heads, -1))

        key = apply_rotary_emb(attn.norm_k(attn.to_k(hidden_states)), image_rotary_emb)
        value = headed(attn.to_v(hidden_states))
        answer = self.mixer.attend(headed(key), value, tokens=self.tokens, rotate=self.rotate)
        query = apply_rotary_emb(attn.norm_q(attn.to_q(hidden_states)), image_rotary_emb)
        return attn.to_out[0](answer(headed(query)).flatten(2))


class AtOneTime(nn.Module):
    """Stands in for `transformer.rope` and gives every token the time at which nothing is turned."""

    def __init__(self, rope: LTXVideoRotaryPosEmbed) -> None:
        super().__init__()
        self.rope = rope

    def forward(
        self, hidden_states: Tensor, frames: None, height: None, width: None, scale: None, video_coords: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of the places in space."""
        still = torch.cat([torch.full_like(video_coords[:, :1], self.rope.base_num_frames / 2), video_coords[:, 1:]], 1)
        return self.rope(hidden_states, video_coords=still)


def temporal_rotation(rope: LTXVideoRotaryPosEmbed, heads: int, seconds: float, reach: int) -> Rotate:
    """Return the function that turns the channels for time of keys, frame by frame.

    `seconds` is the time between two frames. The function takes the offset (key frame - query frame) of every frame;
    offsets beyond +-`reach`, which training has never shown, count as the nearest that it has.
    """
    pairs, count = rope.dim // 2, rope.dim // 6
    frequencies = rope.theta ** torch.linspace(0, 1, count, dtype=torch.float32) * math.pi
    # Channels go in pairs: first those that do not fill a group of three, then time, height, width of each frequency.
    turns = torch.zeros(pairs)
    turns[pairs - 3 * count :: 3] = frequencies * seconds / rope.base_num_frames

    def rotate(keys: Keys, offsets: Sequence[int]) -> Keys:
        offset = torch.tensor(offsets, dtype=torch.float32).clamp(-reach, reach)
        angle = (offset[:, None] * turns).to(keys.device).unflatten(1, (heads, -1))[:, None]
        return turned(keys.unflatten(1, (len(offsets), -1)), angle.cos(), angle.sin()).flatten(1, 2)

    return rotate


@contextmanager
def frame_texts(
    transformer: Any,
    text: Float[Tensor, "texts tokens width"],
    valid: Bool[Tensor, "texts tokens"],
    rows: Int[Tensor, "windows_x_frames"],
) -> Iterator[None]:
    """Let every frame attend to its own row of texts while the context lasts."""
    processor = FrameText(transformer.caption_projection(text), valid, frames_by_row(rows, len(text)))
    with ExitStack() as stack:
        for block in transformer.transformer_blocks:
            stack.enter_context(swapped(block.attn2, "processor", processor))
        yield


@contextmanager
def mixed_frames(transformer: Any, mixer: FrameMixer, tokens: int, seconds: float, reach: int) -> Iterator[None]:
    """Let `mixer` bring the tokens of all frames together while the context lasts; see `temporal_rotation`."""
    rope, heads = cast(LTXVideoRotaryPosEmbed, transformer.rope), transformer.config.num_attention_heads
    processor = MixedFrames(mixer, temporal_rotation(rope, heads, seconds, reach), tokens)
    with ExitStack() as stack:
        stack.enter_context(swapped(transformer, "rope", AtOneTime(rope)))
        for block in transformer.transformer_blocks:
            stack.enter_context(swapped(block.attn1, "processor", processor))
        yield
