"""What every metric of one video promises, row by row of the table, on a video of the sprite worlds."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from longtake.data.sprite_captions import caption
from longtake.data.sprites import Shot, SpriteWorld
from longtake.errors import InputError
from longtake.lazy import named
from longtake.metrics import METRICS
from longtake.metrics.of_video import Drift, OfVideo

SHOT = Shot(object="fish", scene="sea", motion="circles")
FRAMES = SpriteWorld(2, {0: SHOT}).frames(0, 16)
KINDS = {name: kind for name, row in METRICS.items() if issubclass(kind := named(row.kind), OfVideo)}


def measured(name: str, folder: Path, **settings: Any) -> dict[str, Any]:
    """Return the figures, told what the video shows where that can be said."""
    # VBench reads prompts only beside a network.
    is_told = name != "vbench" and "prompts" in {field.name for field in fields(KINDS[name])}
    told = {"prompts": f"[0s: {caption(SHOT, 0)}]"} if is_told else {}
    return KINDS[name](path=folder, **told, **settings).measure()


def written(folder: Path, frames: np.ndarray) -> Path:
    """Write frames as PNG files."""
    folder.mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number:06d}.png")
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_figures_are_json_and_those_of_an_enlarged_video_are_the_same(name: str, tmp_path: Path) -> None:
    figures = measured(name, written(tmp_path / "small", FRAMES))
    assert figures and json.loads(json.dumps(figures, allow_nan=False)).keys() == figures.keys()
    large = written(tmp_path / "large", FRAMES.repeat(2, axis=1).repeat(2, axis=2))
    assert measured(name, large, scale=2) == figures


@pytest.mark.parametrize("name", KINDS)
def test_a_video_that_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no"):
        measured(name, tmp_path / "none")


def test_drift_says_why_start_and_end_are_not_compared(tmp_path: Path) -> None:
    folder = written(tmp_path / "short", FRAMES)
    (warning,) = Drift(path=folder).measure()["warnings"]
    assert "needs 128 or more, and there are 16" in warning
    named: Any = str(folder)
    compared = Drift(path=named, block=8).measure()
    assert compared["warnings"] == [] and compared["colour_drift"] is not None
