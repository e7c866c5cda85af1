"""Tables 1, 2c and 2d of NUWA-XL in miniature: python -m lab score nuwa-xl-lengths [--frames 16 256 1024].

Stories of every length by every way of `--ways`, the longest by those of `--levels`, too, all with as many evaluations
of the network: how far they are from real videos of the same stories (Avg-FID, Block-FVD-16), and what the judge reads.
Blocks are compared with the real ones at their own place alone, so that a distance is one of as few blocks whatever the
length; other real videos show how much of it that is. Another `--window` than the model's own is one that it was not
trained for. The judge and the features are stand-ins. Videos that lie in the folder are not made again.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab.common import measured_model
from lab.score import nuwa_xl
from lab.score.nuwa_xl import Way
from longtake.errors import InputError
from longtake.metrics.judge import CLIP_FRAMES
from longtake.model import Infill


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is made and scored."""

    model: str = "sprites-fast"
    steps: int = 20  # denoising steps of a call of the tree
    frames: tuple[int, ...] = (16, 256, 1024)
    ways: tuple[Way, ...] = ("tree", "sliding")
    levels: tuple[Way, ...] = ("tree-2", "tree-1")
    stories: tuple[int, ...] = (0, 1, 2, 3)  # numbers, which are seeds, too
    window: int | None = None  # frames in one call of the network
    folder: Path = Path("runs/nuwa/lengths")  # where the videos go


def score(chosen: Settings) -> dict[str, Any]:
    """Return a row for every length and way. Raises InputError for lengths and stories that give no distance."""
    if min(chosen.frames) < CLIP_FRAMES:
        raise InputError(
            f"{min(chosen.frames)} frames are no block of {CLIP_FRAMES}; give --frames {CLIP_FRAMES} or more"
        )
    if len(chosen.stories) < 2:
        raise InputError("one story is one block at each place, which has no distance; give --stories two or more")
    model, head = measured_model(chosen.model, Infill, chosen.window)
    report: dict[str, Any] = {**head, "window": model.spec.num_frames, "stories": len(chosen.stories)}
    for frames in chosen.frames:
        settings = nuwa_xl.Settings(
            steps=chosen.steps,
            stories=chosen.stories,
            ways=tuple(dict.fromkeys(chosen.ways + (chosen.levels if frames == max(chosen.frames) else ()))),
            frames=frames,
            pooled=frames // CLIP_FRAMES,
            folder=chosen.folder / f"{chosen.model}-{model.spec.num_frames}-{chosen.steps}-{frames}",
        )
        settings.folder.mkdir(parents=True, exist_ok=True)
        made, apart = nuwa_xl.stories_part(model, settings), nuwa_xl.blocks_part(model, settings)
        report[f"{frames} frames"] = {"other real": _row([], apart["other real"])} | {
            way: _row(made[way], apart[way]) for way in settings.ways
        }
    return report


def _row(videos: list[dict[str, Any]], apart: dict[str, Any]) -> dict[str, Any]:
    """Return the distances of videos, and of what is read in each the mean, the least and the most."""
    read = {
        "object": [video["frames right"]["object"] for video in videos],
        "scene": [video["frames right"]["scene"] for video in videos],
        "motion": [video["blocks right"]["motion"] for video in videos],
        "step over real": [video["step over real"] for video in videos],
        "evaluations": [video["evaluations"] for video in videos],
    }
    spread = {name: [float(np.mean(row)), min(row), max(row)] for name, row in read.items() if row}
    return {"Avg-FID": apart["avg_fid"], "B-FVD-16": apart["block_fvd"], **spread}
