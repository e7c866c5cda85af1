"""How exactly picture autoencoders bring back frames never seen: python -m lab score autoencoder FOLDER...

Frames of worlds whose seeds no training has used, triples that are never trained on included, with the latents' mean
in between. The signal-to-noise ratio is that of all frames together and, `worst`, of the object that comes back worst.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from PIL import Image
from tyro.conf import Positional, arg

from lab.common import Frames, pixels
from longtake.data.sprites import OBJECTS, random_world
from longtake.metrics.scores import psnr
from longtake.models.hub.load import image_decoder
from longtake.models.image_model import decode_frames, encode_frames

FIRST_SEED = 9_700_000
"""World of the first frame."""


def unseen_frames(count: int) -> tuple[Frames, list[str]]:
    """Return frames, one a world, and the object in each."""
    worlds = [random_world(FIRST_SEED + number, training_only=False) for number in range(count)]
    starts = np.random.default_rng(FIRST_SEED).integers(0, 2000, count).tolist()
    frames = [world.frames(start, start + 1) for world, start in zip(worlds, starts, strict=True)]
    return np.concatenate(frames), [world.shot(0).object for world in worlds]


@torch.inference_mode()
def brought_back(folder: Path, frames: Frames) -> Frames:
    """Return frames after the autoencoder in a folder, as bytes; in float32."""
    vae = image_decoder(folder, torch.device("cpu"), torch.float32)
    parts = [decode_frames(vae, encode_frames(vae, part)) for part in pixels(frames).split(50)]
    return (torch.cat(parts) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def figures(frames: Frames, again: Frames, objects: Sequence[str]) -> dict[str, object]:
    """Return the ratio in dB over all frames, and that of the worst object with its name."""
    named = np.array(objects)
    each = {name: psnr(frames[named == name], again[named == name]) for name in OBJECTS if name in objects}
    worst = min(each, key=lambda name: each[name])
    return {"psnr": psnr(frames, again), "worst": each[worst], "worst_object": worst}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which autoencoders, on how many frames."""

    folders: Annotated[Positional[tuple[Path, ...]], arg(metavar="FOLDER...")]
    """Folders as AutoencoderKL saves them."""
    frames: int = 640
    sheet: Path | None = None
    """A picture: the first 12 frames above, each autoencoder's below, at scale 4."""


def score(chosen: Settings) -> dict[str, object]:
    """Print the ratios; draw the sheet."""
    frames, objects = unseen_frames(chosen.frames)
    again = {str(folder): brought_back(folder, frames) for folder in chosen.folders}
    if chosen.sheet:
        rows = [np.concatenate(list(part[:12]), axis=1) for part in (frames, *again.values())]
        sheet = Image.fromarray(np.concatenate(rows))
        sheet.resize((4 * sheet.width, 4 * sheet.height), Image.Resampling.NEAREST).save(chosen.sheet)
    return {"frames": chosen.frames, **{name: figures(frames, made, objects) for name, made in again.items()}}
