"""What the three planes of PVDM hold, as a picture: python -m lab.score.pvdm_planes PICTURE.png

Rows, every second frame of a clip each: clip A and clip B (two real clips); A and B as they come back from their
planes; A with the content plane z^s of B; B with that of A; A without z^h (how it moves across); A without z^w (how it
moves up and down). A plane that is left out holds the mean of the clip's own plane, its sides' variation gone.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lab.measuring import measured_model
from lab.score.pvdm import pixels, shown
from longtake.data.sprites import Shot, SpriteWorld
from longtake.models.pvdm.model import PvdmModel
from longtake.models.pvdm.planes import Planes, join, split

Frames = NDArray[np.uint8]
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
    sides = model.parts.autoencoder.config.grid.planes
    first, second = (split(model.encode_frames(pixels(clip))[None], sides) for clip in clips)
    return [*clips, *(shown(model, join(planes)[0]) for planes in exchanged(first, second).values())]


def main(path: Path, model_name: str = "pvdm-sprites") -> None:
    """Write the picture."""
    model, _, _ = measured_model(model_name, PvdmModel)
    first, second = (SpriteWorld(5_700_000 + i, {0: shot}).frames(40, 56) for i, shot in enumerate(SHOTS))
    with torch.inference_mode():
        made = rows(model, (first, second))
    sheet = np.concatenate([np.concatenate(list(row[::2]), axis=1) for row in made])
    Image.fromarray(sheet).resize((2 * sheet.shape[1], 2 * sheet.shape[0]), Image.Resampling.NEAREST).save(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
