"""The state of a training run on disk: one atomic rename, and nothing that runs code on loading."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from longtake.errors import CheckpointError

_NAME = "checkpoint"


def save_checkpoint(
    folder: Path, step: int, weights: dict[str, Tensor], ema: dict[str, Tensor], optimizer: dict[str, Any]
) -> None:
    """Replace the checkpoint in `folder` as a whole; a kill at any moment leaves the old or the new one."""
    new, current, old = (folder / f"{_NAME}{end}" for end in (".new", "", ".old"))
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in weights.items()}, new / "weights.safetensors")
    save_file({name: value.contiguous() for name, value in ema.items()}, new / "ema.safetensors")
    torch.save(optimizer, new / "optimizer.pt")
    (new / "state.json").write_text(json.dumps({"step": step}))
    shutil.rmtree(old, ignore_errors=True)
    if current.exists():
        os.rename(current, old)
    os.rename(new, current)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path) -> tuple[int, dict[str, Tensor], dict[str, Tensor], dict[str, Any]] | None:
    """Step, weights, average and optimiser state of the checkpoint in `folder`, or None where there is none.

    Raises CheckpointError where it is damaged.
    """
    place = next((path for end in ("", ".old") if (path := folder / f"{_NAME}{end}").exists()), None)
    if place is None:
        return None
    try:
        step = int(json.loads((place / "state.json").read_text())["step"])
        weights, ema = (load_file(place / f"{name}.safetensors") for name in ("weights", "ema"))
        optimizer = torch.load(place / "optimizer.pt", weights_only=True)
    except (OSError, ValueError, KeyError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"the checkpoint {place} is damaged ({error}); delete that folder to start over"
        ) from error
    return step, weights, ema, optimizer
