"""Where a stage of training on recordings runs, and what its folder says of it.

A stage is called in all processes of a job; the first one writes and speaks.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from longtake import __version__
from longtake.data.footage import Footage
from longtake.ranks.world import World
from longtake.train.fit.latents import Share, check_made_of
from longtake.train.fit.limit import Limit
from longtake.train.fit.loop import fit
from longtake.train.fit.run_record import begin_record
from longtake.train.fit.settings import FitSettings
from longtake.train.fit.task import AdversarialPhase, Task
from longtake.video.lock import Lock

DEFAULT_FPS = 25.0
"""Where recordings do not tell theirs, such as folders of frames."""


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
    limit: Limit
    """When to stop."""

    @property
    def data(self) -> str:
        """A digest of which recordings there are."""
        names = [[recording.name, recording.num_frames] for recording in self.train.recordings]
        return hashlib.sha256(json.dumps(names).encode()).hexdigest()

    @contextmanager
    def begun(self, stage: str, plan: str, **facts: Any) -> Iterator[None]:
        """Say what will be done, write it down, and let nobody else train in the folder meanwhile.

        Raises InputError where the folder holds another run, OutputError where another process trains in it.
        """
        if self.world.rank:
            yield
            return
        facts |= {"longtake": __version__, "device": self.device.type, "processes": self.world.size, "plan": plan}
        facts |= {"recordings": len(self.train.recordings), "data": self.data}
        facts |= {"skipped": [{"name": name, "reason": reason} for name, reason in self.train.skipped]}
        self.folder.mkdir(parents=True, exist_ok=True)
        with closing(Lock(self.folder / "lock", self.folder)):
            changes = begin_record(self.folder, stage, self.settings, facts)
            print("\n".join([f"data: {self.train.summary()}", f"plan: {plan}", *(f"note: {one}" for one in changes)]))
            yield

    def encoded(self, told: dict[str, Any], encode: Callable[[Path, Share], bool]) -> Path | None:
        """Return the folder of latents, once each process has encoded its share of the files; None if it was stopped.

        `told` is what latents are made of, beside recordings. Raises InputError where those that are there are of
        something else.
        """
        folder = self.folder / "latents"
        if self.world.rank == 0:
            check_made_of(folder, {"recordings": self.data, **told})
        self.world.all.say("looked")
        done = encode(folder, Share(rank=self.world.rank, size=self.world.size))
        return folder if all(self.world.all.say(done)) else None

    def fit(
        self,
        task: Task,
        settings: FitSettings,
        discriminators: AdversarialPhase | None = None,
        save: Callable[[Path], None] | None = None,
    ) -> bool:
        """Train in the folder; return whether all steps are done."""
        return fit(task, settings, self.folder, self.limit, discriminators, self.limit.share, save)


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
