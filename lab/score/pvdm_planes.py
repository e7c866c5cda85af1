"""What the three planes of PVDM hold, as a picture: python -m lab score pvdm-planes PICTURE.png

Rows, every second frame of a clip each: clip A and clip B (two real clips); A and B as they come back from their
planes; A with the content plane z^s of B; B with that of A; A without z^h (how it moves across); A without z^w (how it
moves up and down). A plane that is left out holds the mean of the clip's own plane, its sides' variation gone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tyro.conf import Positional, arg

from lab.common import Frames, measured_model, pixels
from lab.score.pvdm import shown
from longtake.data.sprites import Shot, SpriteWorld
from longtake.models.pvdm.model import PvdmModel
from longtake.models.pvdm.planes import Planes, join, split

SHOTS = (
    Shot(object="pumpkin", scene="space", motion="circles"),
    Shot(object="fish", scene="beach", motion="bounces"),
)


def exchanged(first: Planes, second: Planes) -> dict[str, Planes]:
    """Return the clips of the picture as planes."""
    (s, h, w), (other_s, other_h, other_w) = first, second
    return {
        "A": first,
        "B": second,
        "A with the content of B": (other_s, h, w),
        "B with the content of A": (s, other_h, other_w),
        "A without its motion across": (s, _flat(h), w),
        "A without its motion up and down": (s, h, _flat(w)),
    }


def _flat(plane: Tensor) -> Tensor:
    return plane.mean(dim=(2, 3), keepdim=True).expand_as(plane)


def rows(model: PvdmModel, clips: tuple[Frames, Frames]) -> list[Frames]:
    """Return real clips, then what their planes become, uint8 (frames, height, width, 3) each."""
    sides = model.pipeline.autoencoder.config.grid.planes
    first, second = (split(model.encode_frames(pixels(clip))[None], sides) for clip in clips)
    return [*clips, *(shown(model, join(planes)[0]) for planes in exchanged(first, second).values())]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of which model, and where to."""

    picture: Annotated[Positional[Path], arg(metavar="PICTURE")]
    model: str = "pvdm-sprites"


def draw(chosen: Settings) -> None:
    """Write the picture."""
    model, _ = measured_model(chosen.model, PvdmModel)
    first, second = (SpriteWorld(5_700_000 + i, {0: shot}).frames(40, 56) for i, shot in enumerate(SHOTS))
    with torch.inference_mode():
        made = rows(model, (first, second))
    sheet = np.concatenate([np.concatenate(list(row[::2]), axis=1) for row in made])
    size = 2 * sheet.shape[1], 2 * sheet.shape[0]
    Image.fromarray(sheet).resize(size, Image.Resampling.NEAREST).save(chosen.picture)
