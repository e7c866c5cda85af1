"""The state of a training run on disk: one atomic rename, and nothing that runs code on loading."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from longtake.errors import CheckpointError, InputError, OutputError
from longtake.train.fit.writing import writing
from longtake.typed import read_typed
from longtake.video.durable import sync_folder, sync_tree

_NAME = "checkpoint"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a run needs to go on; a name is that of a file."""

    step: int
    """Steps done."""
    tensors: dict[str, dict[str, Tensor]]
    """Tensors by name: `weights`, their average `ema`, and those of discriminators that have taken part, `rival`."""
    optimizers: dict[str, dict[str, Any]]
    """States of the `optimizer`, and of `rival_optimizer`."""
    scales: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By what losses are multiplied in half precision, for each optimiser; else empty."""


@dataclass(frozen=True, kw_only=True)
class _Told:
    """The content of state.json."""

    step: int
    scales: dict[str, dict[str, Any]] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.step < 0:
            raise InputError(f"step is {self.step}, and there are none below 0")


def save_checkpoint(folder: Path, state: Checkpoint, keep: int = 1) -> None:
    """Replace the checkpoint in `folder` as a whole; a kill at any moment leaves the old or the new one.

    Of those before it, `keep` - 1 stay as checkpoint-STEP. Raises OutputError as `writing` does; the old one stays.
    """
    current = folder / _NAME
    with new_folder(folder / f"{_NAME}.new", f"the checkpoint of step {state.step}") as new:
        new.mkdir()
        for name, tensors in state.tensors.items():
            save_file({key: value.detach().contiguous() for key, value in tensors.items()}, new / f"{name}.safetensors")
        for name, optimizer in state.optimizers.items():
            torch.save(optimizer, new / f"{name}.pt")
        digests = {file.name: _digest(file) for file in sorted(new.iterdir())}
        (new / "state.json").write_text(json.dumps({"step": state.step, "scales": state.scales, "sha256": digests}))
    old = put_in_place(new, current)
    earlier = json.loads((old / "state.json").read_text())["step"] if keep > 1 and old.exists() else state.step
    if earlier != state.step:
        os.rename(old, folder / f"{_NAME}-{earlier:08d}")
    shutil.rmtree(old, ignore_errors=True)
    for one in sorted(folder.glob(f"{_NAME}-*"), reverse=True)[keep - 1 :]:
        shutil.rmtree(one, ignore_errors=True)


@contextmanager
def new_folder(place: Path, what: str) -> Iterator[Path]:
    """Let a folder be made, in place of one that was left half filled; the name is not its last.

    Raises OutputError as `writing` does, and leaves nothing, where it cannot be filled.
    """
    shutil.rmtree(place, ignore_errors=True)
    try:
        with writing(what, place.parent):
            yield place
    except OutputError:
        shutil.rmtree(place, ignore_errors=True)
        raise


def put_in_place(new: Path, place: Path) -> Path:
    """Give a folder that is whole its last name; return where that which had the name lies now, if one had it.

    A kill or a power cut at any moment leaves one of both whole, under one of the two names.
    """
    sync_tree(new)
    old = place.with_name(f"{place.name}.old")
    if place.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(place, old)
    # Else a kill has left the earlier one as the old, which is all there is until the next line is done.
    os.rename(new, place)
    # What is old is deleted next.
    sync_folder(place.parent)
    return old


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the checkpoint in `folder`, on the CPU, or None where there is none.

    Raises CheckpointError where it is damaged.
    """
    place = _place(folder)
    if place is None:
        return None
    try:
        told = read_typed(_Told, (place / "state.json").read_bytes(), "state.json", error=CheckpointError)
        for name, digest in told.sha256.items():
            if _digest(place / name) != digest:
                raise ValueError(f"{name} was changed since it was written")
        state = Checkpoint(
            step=told.step,
            tensors={file.stem: load_file(file) for file in sorted(place.glob("*.safetensors"))},
            optimizers={
                file.stem: torch.load(file, map_location="cpu", weights_only=True) for file in place.glob("*.pt")
            },
            scales=told.scales,
        )
        _ = state.tensors["weights"], state.tensors["ema"], state.optimizers["optimizer"]
    except (OSError, ValueError, KeyError, SafetensorError, RuntimeError, CheckpointError) as error:
        raise CheckpointError(
            f"the checkpoint {place} is damaged ({error}); delete that folder to start over, "
            f"or put one of {_NAME}-STEP in its place, if there is one"
        ) from error
    return state


def kept_checkpoint(folder: Path) -> str:
    """Return whether there is a checkpoint in `folder`, in words."""
    return f"{folder} holds no checkpoint yet" if _place(folder) is None else f"the last checkpoint in {folder} is kept"


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _place(folder: Path) -> Path | None:
    return next((path for end in ("", ".old") if (path := folder / f"{_NAME}{end}").exists()), None)
