"""Latents of what is learned from, computed once: files in one folder, each whole or not there, and what they are."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from longtake.errors import CheckpointError, InputError
from longtake.train.fit.record import read_noted
from longtake.train.fit.writing import write_tensors, writing
from longtake.video.durable import replace_durable

Encode = Callable[[], dict[str, Tensor] | None]
"""Computes the tensors of a file; None where it was stopped."""
Stop = Callable[[int], bool]
"""Whether to end before this file, or whatever else is counted."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which of the files a process writes: number rank, rank + size, ..."""

    rank: int = 0
    size: int = 1


ALL = Share()


def never(number: int) -> bool:
    """Go on to the end."""
    return False


def write_latents(folder: Path, files: Iterable[tuple[str, Encode]], stop: Stop = never, share: Share = ALL) -> bool:
    """Write the files of this share, by name, that are not there; return whether all of them are now.

    `stop(number)` is asked before each; the same call continues there. Raises OutputError as `writing` does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, encode) in enumerate(files):
        path = folder / f"{name}.safetensors"
        if path.exists() or number % share.size != share.rank:
            continue
        tensors = None if stop(number) else encode()
        if tensors is None:
            return False
        write_tensors(tensors, path)
    return True


def in_files(
    name: str, count: int, per_file: int, encode: Callable[[range], dict[str, Tensor]]
) -> Iterator[tuple[str, Encode]]:
    """Yield the files of so many things in a row, some in each: named after the first, and what encodes them."""
    for first in range(0, count, per_file):
        yield f"{name}_{first:06d}", partial(encode, range(first, min(first + per_file, count)))


def read_latents(folder: Path, names: Iterable[str], files: str = "*") -> dict[str, Tensor]:
    """Return these tensors of all files, each joined in the order of the files.

    Raises InputError where there is no file, CheckpointError where one is damaged, or lacks a tensor.
    """
    paths = sorted(folder.glob(f"{files}.safetensors"))
    if not paths:
        raise InputError(f"{folder} holds no latents; the stage that encodes them must come first")
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    for path in paths:
        try:
            tensors = load_file(path)
            for name, parts in found.items():
                parts.append(tensors[name])
        except (SafetensorError, KeyError) as error:
            why = f"{path} is damaged, or holds something else ({error})"
            raise CheckpointError(f"{why}; delete it to let it be made again") from error
    return {name: torch.cat(parts) for name, parts in found.items()}


def check_made_of(folder: Path, told: dict[str, Any]) -> None:
    """Note down what latents are made of. Raises InputError where those that are there are of something else,
    CheckpointError where the note is damaged."""
    path = folder / "made_of.json"
    before = read_noted(dict[str, Any], path, f"delete {folder}, whose latents are then made again")
    for name in (name for name in told if before is not None and before.get(name) != told[name]):
        raise InputError(f"the latents in {folder} were made with other {name} than those of now; delete that folder")
    with writing(path.name, folder):
        folder.mkdir(parents=True, exist_ok=True)
        replace_durable(path, json.dumps(told).encode())
