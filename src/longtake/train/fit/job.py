"""Where a stage of training on recordings runs, and what its folder says of it.

A stage is called in all processes of a job; the first one writes and speaks.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from longtake import __version__
from longtake.data.footage import Footage
from longtake.errors import InputError
from longtake.ranks.world import World
from longtake.train.fit.run_record import begin_record, skipped_rows

DEFAULT_FPS = 25.0
"""Where recordings do not tell theirs, such as folders of frames."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which of the files a process writes: number rank, rank + size, ..."""

    rank: int = 0
    size: int = 1


ALL = Share()


@dataclass(frozen=True, kw_only=True)
class Job:
    """Where a stage runs, and on what."""

    folder: Path
    """The run's own."""
    train: Footage
    """What is learned from."""
    shown: Footage
    """For pictures on the way: what is held back, or else the same."""
    settings: Mapping[str, Any]
    """All that was asked for, for the record."""
    device: torch.device
    world: World
    stop: Callable[[int], bool]
    """Whether to end before this step."""

    @property
    def data(self) -> str:
        """A digest of which recordings there are."""
        names = [[recording.name, recording.num_frames] for recording in self.train.recordings]
        return hashlib.sha256(json.dumps(names).encode()).hexdigest()

    def begin(self, stage: str, plan: str, **facts: Any) -> None:
        """Say what will be done, and write it down. Raises InputError where the folder holds another run."""
        if self.world.rank:
            return
        facts |= {"longtake": __version__, "device": self.device.type, "processes": self.world.size, "plan": plan}
        facts |= {"recordings": len(self.train.recordings), "data": self.data}
        facts |= {"skipped": skipped_rows(self.train.skipped)}
        changes = begin_record(self.folder, stage, self.settings, facts)
        print("\n".join([f"data: {self.train.summary()}", f"plan: {plan}", *(f"note: {each}" for each in changes)]))


def check_cache(folder: Path, told: dict[str, Any]) -> None:
    """Note down what latents are made of. Raises InputError where those that are there are of something else."""
    path = folder / "made_of.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else told
    for name in (name for name in told if before.get(name) != told[name]):
        raise InputError(f"the latents in {folder} were made with other {name} than those of now; delete that folder")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told), encoding="utf-8")


def frame_rate(footage: Footage) -> float:
    """Return the usual rate of recordings, frames per second."""
    known = [recording.fps for recording in footage.recordings if recording.fps is not None]
    return round(median(known), 3) if known else DEFAULT_FPS


def num_weights(network: nn.Module) -> int:
    """Return the number of trainable weights."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def steps_in_words(num_steps: int, batch_size: int, parts: int) -> str:
    """Return how much is trained, for people."""
    return f"{num_steps:,} steps of {f'{parts} x ' if parts > 1 else ''}{batch_size} clips"
