"""The state of a training run on disk: one atomic rename, and nothing that runs code on loading."""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from longtake.errors import CheckpointError

_NAME = "checkpoint"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a run needs to go on; a name is that of a file."""

    step: int
    """Steps done."""
    tensors: dict[str, dict[str, Tensor]]
    """Tensors by name: `weights`, their average `ema`, and those of a `rival` that has taken part."""
    optimizers: dict[str, dict[str, Any]]
    """States of the `optimizer`, and of `rival_optimizer`."""
    scales: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By what losses are multiplied in half precision, for each optimiser; else empty."""


def save_checkpoint(folder: Path, state: Checkpoint) -> None:
    """Replace the checkpoint in `folder` as a whole; a kill at any moment leaves the old or the new one."""
    new, current, old = (folder / f"{_NAME}{end}" for end in (".new", "", ".old"))
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for name, tensors in state.tensors.items():
        save_file({key: value.detach().contiguous() for key, value in tensors.items()}, new / f"{name}.safetensors")
    for name, optimizer in state.optimizers.items():
        torch.save(optimizer, new / f"{name}.pt")
    digests = {file.name: _digest(file) for file in sorted(new.iterdir())}
    (new / "state.json").write_text(json.dumps({"step": state.step, "scales": state.scales, "sha256": digests}))
    shutil.rmtree(old, ignore_errors=True)
    if current.exists():
        os.rename(current, old)
    os.rename(new, current)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the checkpoint in `folder`, on the CPU, or None where there is none.

    Raises CheckpointError where it is damaged.
    """
    place = _place(folder)
    if place is None:
        return None
    try:
        told = json.loads((place / "state.json").read_text())
        for name, digest in told.get("sha256", {}).items():
            if _digest(place / name) != digest:
                raise ValueError(f"{name} was changed since it was written")
        state = Checkpoint(
            step=int(told["step"]),
            tensors={file.stem: load_file(file) for file in sorted(place.glob("*.safetensors"))},
            optimizers={
                file.stem: torch.load(file, map_location="cpu", weights_only=True) for file in place.glob("*.pt")
            },
            scales=told.get("scales", {}),
        )
        _ = state.tensors["weights"], state.tensors["ema"], state.optimizers["optimizer"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"the checkpoint {place} is damaged ({error}); delete that folder to start over"
        ) from error
    return state


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _place(folder: Path) -> Path | None:
    return next((path for end in ("", ".old") if (path := folder / f"{_NAME}{end}").exists()), None)
