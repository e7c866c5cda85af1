"""Dual-scope attention of Video-Infinity (Tan et al., 2024, arXiv 2406.16260): neighbours and a few frames of the whole
video, in blocks of queries, so that the cost grows with the length of the video and not with its square.

Tensors here are (sequences, frames, tokens, heads, width), `tokens` of every frame together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.attention import Rotate, attention
from longtake.samplers.clips import around

SMALLEST_BLOCK = 8


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a frame looks at, and how much weight it gives to it."""

    total: int
    """Frames of the video."""
    padding: int
    """Frames to each side in the local scope, p."""
    global_frames: tuple[int, ...]
    """Frames in the global scope of every frame."""
    zeros: bool
    """Places beyond the ends of the video take part as zero keys and values (as released), or not at all."""
    repeats: bool
    """A global frame inside the local scope counts twice (as released), or once."""
    attn_scale: float = 1.0
    """Factor of the logits."""
    token_num_scale: bool = False
    """Multiply logits by ln(n) / ln(16), n the number of places that a frame looks at (arXiv 2306.08645)."""

    def beyond(self, frame: int) -> int:
        """Return how many places of a frame's local scope lie beyond the ends of the video."""
        return max(0, self.padding - frame) + max(0, frame + self.padding - self.total + 1)

    def sees(self, frame: int, global_frame: int) -> bool:
        """Return whether a global frame counts as one for this frame."""
        return self.repeats or abs(frame - global_frame) > self.padding

    def factor(self, frame: int) -> float:
        """Return what a frame's logits are multiplied by."""
        if not self.token_num_scale:
            return self.attn_scale
        places = 2 * self.padding + 1 - (0 if self.zeros else self.beyond(frame))
        places += sum(self.sees(frame, other) for other in self.global_frames)
        return self.attn_scale * math.log(places) / math.log(16)


@dataclass(frozen=True)
class Block:
    """Frames whose queries attend together, and the frames of their local scopes."""

    queries: range
    local: range
    has_zeros: bool


class DualScope:
    """Attention of one process's frames under a scope."""

    def __init__(self, scope: Scope, frames: range) -> None:
        self.scope, self.frames = scope, frames
        factors = [scope.factor(frame) for frame in frames]
        self._factors = None if all(factor == 1 for factor in factors) else torch.tensor(factors)
        self._biases: dict[tuple[object, ...], Tensor | None] = {}

    def blocks(self, clip: range, size: int) -> list[Block]:
        """Return the frames of a clip in blocks of `size`: a block is the same whichever process computes it."""
        scope, blocks = self.scope, []
        for start in range(clip.start, clip.stop, size):
            queries = range(start, min(start + size, clip.stop))
            has_zeros = scope.zeros and any(scope.beyond(frame) for frame in queries)
            blocks.append(Block(queries, around(queries, scope.padding, scope.total), has_zeros))
        return blocks

    def scaled(self, query: Tensor) -> Tensor:
        """Return the queries of all frames here, times the factor of their logits."""
        if self._factors is None:
            return query
        return query * self._factors.to(query)[:, None, None, None]

    def attend(
        self,
        block: Block,
        query: Tensor,
        near: Sequence[Tensor],
        far: Sequence[Tensor],
        weights: tuple[float, float],
        rotate: Rotate | None,
    ) -> Tensor:
        """Return what a block's queries find in the keys and values of its local frames and of the global frames.

        `weights` are added to the logits of local and of global frames. With `rotate`, the block is one frame.
        """
        tokens = query.shape[2]
        parts = []
        for local, distant in zip(near, far, strict=True):
            pieces = [local, torch.zeros_like(local[:, :1]), distant] if block.has_zeros else [local, distant]
            together = torch.cat(pieces, dim=1) if block.has_zeros or distant.shape[1] else local
            parts.append(together.flatten(1, 2))
        key, value = parts
        if rotate:
            seen = [*block.local, *[block.queries.start] * block.has_zeros, *self.scope.global_frames]
            key = rotate(key, [frame - block.queries.start for frame in seen])
        bias = self._bias(block, weights, query.device)
        if tokens > 1 and bias is not None:
            # One row serves all queries of a frame; it broadcasts where the block is one frame.
            rows = bias if len(block.queries) == 1 else bias.repeat_interleave(tokens, 0)
            bias = rows.repeat_interleave(tokens, 1)
        return attention(query.flatten(1, 2), key, value, bias).unflatten(1, (-1, tokens))

    def _bias(self, block: Block, weights: tuple[float, float], device: torch.device) -> Tensor | None:
        """Return what is added to the logits (queries, keys): built once for a block and a phase; None adds nothing."""
        name = (block.queries, weights, device)
        if name not in self._biases:
            rows = [self._row(block, frame, *weights) for frame in block.queries]
            self._biases[name] = torch.tensor(rows, device=device) if any(map(any, rows)) else None
        return self._biases[name]

    def _row(self, block: Block, frame: int, local_weight: float, global_weight: float) -> list[float]:
        scope = self.scope
        row = [local_weight if abs(frame - other) <= scope.padding else -math.inf for other in block.local]
        if block.has_zeros:
            # All zero keys give the same logit: one key stands for them.
            count = scope.beyond(frame)
            row.append(local_weight + math.log(count) if count else -math.inf)
        return row + [global_weight if scope.sees(frame, other) else -math.inf for other in scope.global_frames]
