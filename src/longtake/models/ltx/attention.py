"""What takes the place of layers of LTX's transformers for a call: a text per frame, mixing by others.

LTX-Video and LTX-2 attend over all tokens of all frames at once, with rotary positions in seconds and pixels (HaCohen
et al., 2024, arXiv 2501.00103). Only the part for time depends on which frame a token is in, and only through
differences of times: queries can stay at time 0 while keys are turned by their frame's offset.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from diffusers.models.transformers.transformer_ltx import LTXAttention, LTXVideoRotaryPosEmbed, apply_rotary_emb
from diffusers.models.transformers.transformer_ltx2 import (
    LTX2Attention,
    LTX2AudioVideoRotaryPosEmbed,
    apply_interleaved_rotary_emb,
    apply_split_rotary_emb,
)
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from longtake.attention import FrameMixer, Rotate, attention
from longtake.models.hooks import FramesByRow, attended_by_row, frames_by_row, swapped, turned, turned_halves

Layer = LTXAttention | LTX2Attention
Rope = LTXVideoRotaryPosEmbed | LTX2AudioVideoRotaryPosEmbed
Keys = Float[Tensor, "sequences frames_x_tokens heads headwidth"]


@dataclass(frozen=True)
class FrameText:
    """Attention processor of the layers for text: every frame attends to its own."""

    text: Float[Tensor, "texts tokens width"] | None
    """Projected; None where the block hands all texts on, one after the other through all windows."""
    valid: Bool[Tensor, "texts tokens"]
    """Which of its tokens count."""
    frames: FramesByRow

    def __call__(self, attn: Layer, hidden_states: Tensor, encoder_hidden_states: Tensor, *_: Any) -> Tensor:
        """Return what the layer adds to (windows, frames x tokens, channels)."""
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        texts = encoder_hidden_states.flatten(0, 1).unflatten(0, self.valid.shape) if self.text is None else self.text
        return _leaving(attn, hidden_states, attended_by_row(query, self.frames, partial(self._answered, attn, texts)))

    def _answered(self, attn: Layer, texts: Tensor, asked: Tensor, row: int) -> Tensor:
        text = texts[row][self.valid[row].nonzero()[:, 0]][None]
        key, value = attn.norm_k(attn.to_k(text)), attn.to_v(text)
        return attention(asked, key.unflatten(2, (attn.heads, -1)), value.unflatten(2, (attn.heads, -1)))


@dataclass(frozen=True)
class MixedFrames:
    """Attention processor of the layers over all tokens, which lets a mixer bring keys and queries together."""

    mixer: FrameMixer
    rotate: Rotate
    tokens: int
    """Of a frame."""

    def __call__(
        self,
        attn: Layer,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None,
        attention_mask: Tensor | None,
        rotary_emb: tuple[Tensor, Tensor],
        key_rotary_emb: None = None,
        perturbation_mask: None = None,
        all_perturbed: bool | None = None,
    ) -> Tensor:
        """Return what the layer adds. `rotary_emb` is that of `AtOneTime`."""

        def headed(x: Tensor) -> Tensor:
            return x.unflatten(2, (attn.heads, -1))

        key = _placed(attn, attn.norm_k(attn.to_k(hidden_states)), rotary_emb)
        value = headed(attn.to_v(hidden_states))
        answer = self.mixer.attend(headed(key), value, tokens=self.tokens, rotate=self.rotate)
        query = _placed(attn, attn.norm_q(attn.to_q(hidden_states)), rotary_emb)
        return _leaving(attn, hidden_states, answer(headed(query)).flatten(2))


def _placed(attn: Layer, x: Tensor, rotary_emb: tuple[Tensor, Tensor]) -> Tensor:
    if not isinstance(attn, LTX2Attention):
        return apply_rotary_emb(x, rotary_emb)
    turn: Any = apply_split_rotary_emb if attn.rope_type == "split" else apply_interleaved_rotary_emb
    return turn(x, rotary_emb)


def _leaving(attn: Layer, hidden_states: Tensor, mixed: Tensor) -> Tensor:
    """Return what leaves a layer: in LTX-2 every token says how much of it each head may add, from 0 to 2 times."""
    if isinstance(attn, LTX2Attention) and attn.to_gate_logits is not None:
        gates = 2.0 * torch.sigmoid(attn.to_gate_logits(hidden_states))
        mixed = (mixed.unflatten(2, (attn.heads, -1)) * gates[..., None]).flatten(2)
    return attn.to_out[0](mixed)


class AtOneTime(nn.Module):
    """Stands in for `transformer.rope` and gives every token the time at which nothing is turned."""

    def __init__(self, rope: Rope) -> None:
        super().__init__()
        self.rope = rope

    def forward(self, *given: Any, device: Any = None) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of the places in space; the places are given last."""
        coords = given[-1]
        still = torch.cat([torch.full_like(coords[:, :1], self.rope.base_num_frames / 2), coords[:, 1:]], 1)
        if isinstance(self.rope, LTX2AudioVideoRotaryPosEmbed):
            return self.rope(still, device=device)
        return self.rope(given[0], video_coords=still)


def temporal_rotation(rope: Rope, heads: int, seconds: float, reach: int) -> Rotate:
    """Return the function that turns the channels for time of keys, frame by frame.

    `seconds` is the time between two frames. The function takes the offset (key frame - query frame) of every frame;
    offsets beyond +-`reach`, which training has never shown, count as the nearest that it has.
    """
    pairs, count = rope.dim // 2, rope.dim // 6
    frequencies = rope.theta ** torch.linspace(0, 1, count, dtype=torch.float32) * math.pi
    # Channels go in pairs: first those that do not fill a group of three, then time, height, width of each frequency.
    turns = torch.zeros(pairs)
    turns[pairs - 3 * count :: 3] = frequencies * seconds / rope.base_num_frames
    turn = turned_halves if isinstance(rope, LTX2AudioVideoRotaryPosEmbed) and rope.rope_type == "split" else turned

    def rotate(keys: Keys, offsets: Sequence[int]) -> Keys:
        offset = torch.tensor(offsets, dtype=torch.float32).clamp(-reach, reach)
        angle = (offset[:, None] * turns).to(keys.device).unflatten(1, (heads, -1))[:, None]
        return turn(keys.unflatten(1, (len(offsets), -1)), angle.cos(), angle.sin()).flatten(1, 2)

    return rotate


@contextmanager
def frame_texts(
    transformer: Any,
    text: Float[Tensor, "texts tokens width"] | None,
    valid: Bool[Tensor, "texts tokens"],
    rows: Int[Tensor, "windows_x_frames"],
) -> Iterator[None]:
    """Let every frame attend to its own row of texts while the context lasts; see `FrameText.text`."""
    processor = FrameText(text, valid, frames_by_row(rows, int(rows.max()) + 1))
    with ExitStack() as stack:
        for block in transformer.transformer_blocks:
            stack.enter_context(swapped(block.attn2, "processor", processor))
        yield


@contextmanager
def mixed_frames(transformer: Any, mixer: FrameMixer, tokens: int, seconds: float, reach: int) -> Iterator[None]:
    """Let `mixer` bring the tokens of all frames together while the context lasts; see `temporal_rotation`."""
    rope, heads = cast(Rope, transformer.rope), transformer.config.num_attention_heads
    processor = MixedFrames(mixer, temporal_rotation(rope, heads, seconds, reach), tokens)
    with ExitStack() as stack:
        stack.enter_context(swapped(transformer, "rope", AtOneTime(rope)))
        for block in transformer.transformer_blocks:
            stack.enter_context(swapped(block.attn1, "processor", processor))
        yield
