"""Prompts that turn into each other."""

from collections.abc import Sequence

import torch

from longtake.model import Condition
from longtake.request import PromptTimeline
from longtake.samplers.run import Prompts


def blended(
    prompts: Prompts, timeline: PromptTimeline, frames: Sequence[int], blend: int
) -> tuple[Condition, list[int]]:
    """Return prompts for these frames and the row of each, where neighbouring prompts mix over `blend` frames.

    They are the negative prompt and then the prompts that the frames need; mixed rows are added after them. The mix is
    even at the frame where the new prompt starts.
    """
    shares = [_share(timeline, frame, blend) for frame in frames]
    olds = {new for new, share in shares if share < 1}
    condition, places = prompts.used({1 + new for new, _ in shares} | olds)
    rows, mixes = [], []
    for new, share in shares:
        if share >= 1:
            rows.append(places[1 + new])
        else:
            rows.append(len(places) + len(mixes))
            mixes.append((places[new], places[1 + new], share))
    return (_with_mixes(condition, mixes) if mixes else condition), rows


def _with_mixes(condition: Condition, mixes: Sequence[tuple[int, int, float]]) -> Condition:
    """Return prompts with a row more for every two of them that are mixed, and the share of the second."""
    return Condition(
        {
            name: torch.stack([*rows, *(torch.lerp(rows[old], rows[new], share) for old, new, share in mixes)])
            for name, rows in condition.rows.items()
        }
    )


def _share(timeline: PromptTimeline, frame: int, blend: int) -> tuple[int, float]:
    """Return which prompt is next to hold at a frame, or holds already, and its share there; the rest is the one
    before."""
    new = timeline.at(frame + blend // 2)
    return new, (frame - timeline.starts[new] + blend / 2 + 0.5) / blend if blend and new else 1.0
