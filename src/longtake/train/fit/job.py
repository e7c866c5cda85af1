"""Where a stage of training on recordings runs, and what its folder says of it, in run.json beside its checkpoints.

A stage is called in all processes of a job; the first one writes and speaks.
"""

import hashlib
import json
import re
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
from longtake.errors import InputError
from longtake.machine import peak_memory
from longtake.ranks.world import World
from longtake.train.fit.latents import Share, check_made_of
from longtake.train.fit.limit import Limit
from longtake.train.fit.loop import fit
from longtake.train.fit.record import read_noted
from longtake.train.fit.settings import FitSettings
from longtake.train.fit.task import AdversarialPhase, Scalars, Task
from longtake.train.fit.writing import writing
from longtake.video.durable import Lock, replace_durable

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

    @property
    def held_back(self) -> bool:
        """Whether what is shown is not learned from."""
        return self.shown is not self.train

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
        held_out: Callable[[], Scalars] | None = None,
    ) -> bool:
        """Train in the folder; return whether all steps are done."""
        return fit(task, settings, self.folder, self.limit, discriminators, self.limit.share, save, held_out)


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


_CPU = "can't allocate memory"


@contextmanager
def memory_advice(advice: str) -> Iterator[None]:
    """Turn running out of memory, of a GPU or of the machine, into one line with the numbers and what to change.

    `advice` ends the line; InputError is raised.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and _CPU not in str(error):
            raise
        raise InputError(f"out of memory{_numbers(str(error))}; {advice}") from error


def _numbers(message: str) -> str:
    """Return what is known of sizes, in brackets."""
    wanted = re.search(r"(?:[Tt]ried|Unable) to allocate ([\d.]+) (\w+)", message)
    total = re.search(r"total capacity of ([\d.]+ \w+)", message)
    said = [f"{_readable(*wanted.groups())} more were needed"] if wanted else []
    said.append(f"the GPU has {total[1]}" if total else f"this process has had {peak_memory() / 1e9:.1f} GB")
    return f" ({', '.join(said)})"


def _readable(count: str, unit: str) -> str:
    return f"{float(count) / 1e9:.2g} GB" if unit == "bytes" else f"{count} {unit}"


RECORD = "run.json"
_FREE = (
    "sample_minutes",
    "save_minutes",
    "keep",
    "log_every",
    "recompute",
    "in_memory",
    "vgg",
    "autoencoder",
    "folder",
)
"""Settings that change no weight, and places of files."""
_LESS_MEMORY = ("batch_size", "parts")
"""Settings that may have to change when memory runs out."""
_GO_ON = ("run.fit.num_steps", "run.judges.")
"""Settings with which a finished run goes on, until a second phase has begun."""


def begin_record(folder: Path, stage: str, settings: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """Write run.json to the folder of a run, and return what differs from an earlier call, in words.

    `facts` are what else is worth knowing; under "data", a digest of the recordings. Once there is a checkpoint,
    `settings` must be the same but for steps, the size of a batch, and what changes no weight. Raises InputError for
    other differences, and for the folder of another stage.
    """
    earlier = read_noted(dict[str, Any], folder / RECORD, "delete it to let the run go on") or {}
    changes: list[str] = []
    if earlier and earlier.get("stage") != stage:
        raise InputError(f"{folder} is a run of {earlier.get('stage')}; choose another folder for {stage}")
    if earlier and list(folder.glob("checkpoint*")):
        changes = _changes(folder, _flat(earlier.get("settings", {})), _flat(settings))
        if earlier.get("data") != facts.get("data"):
            changes.append("there are other recordings than when the run began")
    content = {"stage": stage, "settings": settings, **facts}
    with writing(RECORD, folder):
        folder.mkdir(parents=True, exist_ok=True)
        replace_durable(folder / RECORD, (json.dumps(content, indent=2) + "\n").encode())
    return changes


def _changes(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    second_phase = list(folder.glob("checkpoint*/rival.safetensors"))
    goes_on = ("run.judges.steps",) if second_phase else _GO_ON
    found = []
    for name, value in now.items():
        last = name.split(".")[-1]
        if before.get(name) == value or name.startswith(goes_on) or last in _FREE:
            continue
        what = last.removeprefix("num_").replace("_", " ")
        if last not in _LESS_MEMORY:
            raise InputError(
                f"the run in {folder} was begun with {what} {before.get(name)}, not {value}; "
                "give the same settings, or another folder"
            )
        found.append(f"{what} {value} in place of {before.get(name)}")
    return found


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested settings under names joined by dots; lists count as values."""
    if not isinstance(settings, dict):
        return {prefix: settings}
    return {
        name: value
        for key, inner in settings.items()
        for name, value in _flat(inner, f"{prefix}.{key}" if prefix else key).items()
    }
