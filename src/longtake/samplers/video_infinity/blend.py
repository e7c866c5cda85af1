"""Prompts that turn into each other."""

from collections.abc import Sequence

import torch

from longtake.model import Condition
from longtake.request import PromptTimeline


def blended(
    condition: Condition, prompts: PromptTimeline, frames: Sequence[int], blend: int
) -> tuple[Condition, list[int]]:
    """Return a prompt table and the row of every frame, where neighbouring prompts mix over `blend` frames.

    `condition` holds the negative prompt and then the timeline's prompts; mixed rows are added after them. The mix is
    even at the frame where the new prompt starts.
    """
    table, rows, mixed = condition.table, [], []
    for frame in frames:
        new = prompts.at(frame + blend // 2)
        share = (frame - prompts.starts[new] + blend / 2 + 0.5) / blend if blend and new else 1.0
        if share >= 1:
            rows.append(1 + new)
        else:
            rows.append(len(table) + len(mixed))
            mixed.append(torch.lerp(table[new], table[new + 1], share))
    return (Condition(torch.stack([*table, *mixed])) if mixed else condition), rows
