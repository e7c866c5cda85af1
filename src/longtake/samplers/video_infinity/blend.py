"""Prompts that turn into each other."""

from collections.abc import Sequence

import torch

from longtake.model import Condition
from longtake.request import PromptTimeline
from longtake.samplers.run import Prompts


def blended(
    prompts: Prompts, timeline: PromptTimeline, frames: Sequence[int], blend: int
) -> tuple[Condition, list[int]]:
    """Return a prompt table for these frames and the row of each, where neighbouring prompts mix over `blend` frames.

    It holds the negative prompt and then the prompts that the frames need; mixed rows are added after them. The mix is
    even at the frame where the new prompt starts.
    """
    shares = [_share(timeline, frame, blend) for frame in frames]
    olds = {new for new, share in shares if share < 1}
    condition, places = prompts.used({1 + new for new, _ in shares} | olds)
    table, rows, mixed = condition.table, [], []
    for new, share in shares:
        if share >= 1:
            rows.append(places[1 + new])
        else:
            rows.append(len(table) + len(mixed))
            mixed.append(torch.lerp(table[places[new]], table[places[1 + new]], share))
    return (Condition(torch.stack([*table, *mixed])) if mixed else condition), rows


def _share(timeline: PromptTimeline, frame: int, blend: int) -> tuple[int, float]:
    """Return which prompt is next to hold at a frame, or holds already, and its share there; the rest is the one
    before."""
    new = timeline.at(frame + blend // 2)
    return new, (frame - timeline.starts[new] + blend / 2 + 0.5) / blend if blend and new else 1.0
