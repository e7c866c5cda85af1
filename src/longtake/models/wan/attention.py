"""What takes the place of layers of WanTransformer3DModel for the length of a call: a text per frame, mixing by others.

Wan attends over all tokens of all frames at once, with rotary positions over time, height and width (Wan Team, 2025,
arXiv 2503.20314). Only the part for time depends on which frame a token is in, and only through differences of frames:
queries can stay at time 0 while keys are turned by their frame's offset.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from diffusers import SkyReelsV2Transformer3DModel, WanTransformer3DModel, WanVACETransformer3DModel
from diffusers.models.transformers.transformer_skyreels_v2 import SkyReelsV2Attention, SkyReelsV2RotaryPosEmbed
from diffusers.models.transformers.transformer_wan import WanAttention, WanRotaryPosEmbed
from jaxtyping import Float, Int
from torch import Tensor, nn

from longtake.attention import FrameMixer, Rotate, attention
from longtake.models.hooks import FramesByRow, attended_by_row, frames_by_row, swapped, turned
from longtake.models.wan.spec import TEXT_TOKENS

WanTransformer = WanTransformer3DModel | WanVACETransformer3DModel | SkyReelsV2Transformer3DModel
Layer = WanAttention | SkyReelsV2Attention
Rope = WanRotaryPosEmbed | SkyReelsV2RotaryPosEmbed
Table = Float[Tensor, "1 tokens 1 headwidth"]
Keys = Float[Tensor, "sequences frames_x_tokens heads headwidth"]


@dataclass(frozen=True)
class FrameText:
    """Attention processor of the layers for text: every frame attends to its own."""

    frames: FramesByRow

    def __call__(
        self,
        attn: Layer,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None,
        rotary_emb: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """Return what the layer adds to (windows, frames x tokens, channels); `encoder_hidden_states` has all texts,
        each after what is seen in pictures where the layer has projections for that."""
        query = _headed(attn, attn.norm_q(attn.to_q(hidden_states)))
        seen, text = encoder_hidden_states[:, :-TEXT_TOKENS], encoder_hidden_states[:, -TEXT_TOKENS:]
        sources = [(attn.norm_k(attn.to_k(text)), attn.to_v(text))]
        if attn.add_k_proj is not None and attn.add_v_proj is not None:
            sources.append((attn.norm_added_k(attn.add_k_proj(seen)), attn.add_v_proj(seen)))
        headed = [(_headed(attn, key), _headed(attn, value)) for key, value in sources]
        return attn.to_out[0](attended_by_row(query, self.frames, partial(_answered, headed)))


@dataclass(frozen=True)
class MixedFrames:
    """Attention processor of the layers over all tokens, which lets a mixer bring keys and queries together."""

    mixer: FrameMixer
    rotate: Rotate

    def __call__(
        self,
        attn: Layer,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None,
        attention_mask: Tensor | None,
        rotary_emb: tuple[Table, Table],
    ) -> Tensor:
        """Return what the layer adds. `rotary_emb` is that of `FirstFrame`: positions in space for every frame."""
        cos, sin = (table[..., start::2] for start, table in enumerate(rotary_emb))
        tokens = cos.shape[1]

        def placed(x: Tensor) -> Tensor:
            return turned(x.unflatten(1, (-1, tokens)), cos, sin).flatten(1, 2)

        key = placed(_headed(attn, attn.norm_k(attn.to_k(hidden_states))))
        answer = self.mixer.attend(key, _headed(attn, attn.to_v(hidden_states)), tokens=tokens, rotate=self.rotate)
        query = placed(_headed(attn, attn.norm_q(attn.to_q(hidden_states))))
        return attn.to_out[0](answer(query).flatten(2))


class FirstFrame(nn.Module):
    """Stands in for `transformer.rope` and gives the positions of the first frame: those in space, at time 0."""

    def __init__(self, rope: Rope) -> None:
        super().__init__()
        self.rope = rope

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines for the tokens of one frame of (windows, channels, frames, height, width)."""
        return self.rope(hidden_states[:, :, :1])


def temporal_rotation(rope: Rope, reach: int) -> Rotate:
    """Return the function that turns the channels for time of keys, frame by frame.

    It takes the offset (key frame - query frame) of every frame; offsets beyond +-`reach`, which training has never
    shown, count as the nearest that it has.
    """
    width = rope.t_dim
    cosines, sines = (cast(Tensor, table)[:, :width] for table in (rope.freqs_cos, rope.freqs_sin))

    def rotate(keys: Keys, offsets: Sequence[int]) -> Keys:
        offset = torch.tensor(offsets, device=keys.device).clamp(-reach, reach)
        cos = cosines[offset.abs(), 0::2][:, None, None]
        # The table holds no negative positions; the sine is odd.
        sin = sines[offset.abs(), 1::2][:, None, None] * offset.sign()[:, None, None, None]
        by_frame = keys.unflatten(1, (len(offsets), -1))
        over_time, in_space = by_frame.split([width, keys.shape[-1] - width], dim=-1)
        return torch.cat([turned(over_time, cos, sin), in_space], dim=-1).flatten(1, 2)

    return rotate


@contextmanager
def frame_texts(transformer: WanTransformer, rows: Int[Tensor, "windows_x_frames"]) -> Iterator[None]:
    """Let every frame attend to its own row of the texts that the transformer is given, while the context lasts."""
    processor = FrameText(frames_by_row(rows, int(rows.max()) + 1))
    with ExitStack() as stack:
        for block in _blocks(transformer):
            stack.enter_context(swapped(block.attn2, "processor", processor))
        yield


@contextmanager
def mixed_frames(transformer: WanTransformer, mixer: FrameMixer, reach: int) -> Iterator[None]:
    """Let `mixer` bring the tokens of all frames together while the context lasts; see `temporal_rotation`."""
    processor = MixedFrames(mixer, temporal_rotation(transformer.rope, reach))
    with ExitStack() as stack:
        stack.enter_context(swapped(transformer, "rope", FirstFrame(transformer.rope)))
        for block in _blocks(transformer):
            stack.enter_context(swapped(block.attn1, "processor", processor))
        yield


def _blocks(transformer: WanTransformer) -> list[Any]:
    stacks = [transformer.blocks]
    if isinstance(transformer, WanVACETransformer3DModel):
        stacks.append(transformer.vace_blocks)
    return [block for stack in stacks for block in stack]


def _headed(attn: Layer, x: Tensor) -> Tensor:
    return x.unflatten(2, (attn.heads, -1))


def _answered(sources: Sequence[tuple[Tensor, Tensor]], asked: Tensor, row: int) -> Tensor:
    """Return what queries get of a row of keys and values, of all sources together."""
    answers = [attention(asked, key[row : row + 1], value[row : row + 1]) for key, value in sources]
    return sum(answers[1:], answers[0])
