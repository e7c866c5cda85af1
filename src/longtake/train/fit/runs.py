"""The stages of the training of embedded models: one folder that all share, and each its part of the time."""

import contextlib
import json
import shlex
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from longtake.errors import InputError
from longtake.train.fit.limit import ENDLESS, Limit
from longtake.train.fit.loop import fit, read_trained
from longtake.train.fit.record import read_noted
from longtake.train.fit.settings import Batches, FitSettings
from longtake.train.fit.task import Task
from longtake.train.fit.writing import writing
from longtake.video.durable import Lock, replace_durable

Network = TypeVar("Network", bound=nn.Module)

BASE = "begun-with"
"""Folder of what a folder of runs began with in place of random weights, by stage."""

_MORE = 1_000
"""By so much the steps of a recipe are multiplied where time ends it."""
_ON_GPU = 8
"""By so much its batches are on a GPU, where a step is thousands of operations too small to fill it."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Where stages run: each has a folder of its name, in which `final/` is what the next ones take."""

    folder: Path
    """What all share."""
    device: torch.device = torch.device("cpu")
    limit: Limit = ENDLESS
    """When to stop; the same call later continues."""

    def fit(self, stage: str, task: Task, settings: FitSettings) -> bool:
        """Train in the stage's folder: its steps, or as long as there is time. Returns whether it is finished."""
        if self.limit.ends:
            steps, decay = settings.num_steps * _MORE, settings.decay_steps * _MORE
            settings = replace(settings, num_steps=steps, decay_steps=decay)
        return fit(task, settings, self.folder / stage, self.limit, share=self.limit.share)

    def moved(self, network: Network) -> Network:
        """Return a network where it is trained."""
        # Not network.to: diffusers and transformers wrap it in what has no types.
        nn.Module.to(network, self.device)
        return network

    def final(self, stage: str) -> Path:
        """Return the folder that a stage left. Raises InputError where it has not begun, CheckpointError where its
        training.json is damaged."""
        folder = self.folder / stage / "final"
        if not folder.exists():
            raise self._lacks(folder, stage)
        trained = read_trained(folder)
        if trained is not None and trained.step < trained.steps < _MORE * 1_000:
            print(f"note: {folder} is not finished: step {trained.step} of {trained.steps}")
        return folder

    def furthest(self, stage: str, further: str) -> Path:
        """Return the folder that `further` left where there is one, else that of `stage`, with which it began."""
        return self.final(further if (self.folder / further / "final").exists() else stage)

    def latents(self, stage: str) -> Path:
        """Return the folder of the latents that a stage has encoded. Raises InputError where there are none."""
        folder = self.folder / stage
        if not any(folder.glob("*.safetensors")):
            raise self._lacks(folder, stage, "holds no latents")
        return folder

    @property
    def captions(self) -> Path:
        """Return the file of all captions' states. Raises InputError where it is not there."""
        if not self.captions_file.exists():
            raise self._lacks(self.captions_file, "text")
        return self.captions_file

    @property
    def captions_file(self) -> Path:
        """Return where that file goes."""
        return self.folder / "captions.safetensors"

    def _lacks(self, what: Path, stage: str, reason: str = "does not exist") -> InputError:
        command = f"longtake train embedded {stage} --runs {shlex.quote(str(self.folder))}"
        return InputError(f"{what} {reason}; {stage} must come first: {command}")


@dataclass(kw_only=True)
class _Told:
    """The content of stages.json."""

    done: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Raise InputError for seconds that cannot have passed."""
        if not 0 <= self.seconds < float("inf"):
            raise InputError(f"seconds is {self.seconds:g}, which cannot have passed")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A step on the way to a model."""

    run: Callable[..., bool]
    """Of its settings and of where it runs; returns whether it is finished."""
    settings: tuple[Any, ...]
    """All that it takes."""
    share: float
    """Of the time of all stages: its part of theirs."""

    def __call__(self, runs: Runs) -> bool:
        """Run it, while nobody else does."""
        return self.run(*(_sized(each, runs.device) for each in self.settings), runs)


def _sized(setting: Any, device: torch.device) -> Any:
    many = isinstance(setting, Batches) and device.type != "cpu"
    return replace(setting, batch_size=_ON_GPU * setting.batch_size) if many else setting


def run_named(stages: Mapping[str, Stage], name: str, runs: Runs, minutes: float | None) -> tuple[bool, Limit]:
    """Run the stage of this name, or "all", for so long, or until a signal; return whether it is finished, and why not.

    What was interrupted continues.
    """
    with Limit(None if name == "all" else minutes) as limit:
        runs = replace(runs, limit=limit)
        done = run_stages(stages, runs, minutes) if name == "all" else run_stage(name, stages[name], runs)
    return done, limit


def run_stage(name: str, stage: Stage, runs: Runs) -> bool:
    """Run a stage, or go on with it, alone in its folder; return whether it is finished.

    Raises InputError where what it takes is not there, and leaves no folder behind that was not there before.
    """
    place = runs.folder / name
    made = [folder for folder in (place, runs.folder) if not folder.exists()]
    place.mkdir(parents=True, exist_ok=True)
    with closing(Lock(place / "lock", place)):
        try:
            return stage(runs)
        except InputError:
            if made and [file.name for file in place.iterdir()] == ["lock"]:
                with contextlib.suppress(OSError):
                    (place / "lock").unlink()
                    for folder in made:
                        folder.rmdir()
            raise


def run_stages(stages: Mapping[str, Stage], runs: Runs, minutes: float | None) -> bool:
    """Run all stages in their order; return whether all are finished.

    With `minutes`, each trains for its share of them, whatever its steps, and ends with a model; what it leaves of its
    time goes to the others. Else each trains for its steps. The same call goes on with the stage that was interrupted,
    and with the time that is left. Raises CheckpointError where stages.json, which says so, is damaged.
    """
    record = runs.folder / "stages.json"
    told = read_noted(_Told, record, "delete it to go through all stages again, each from where it stands") or _Told()
    for name, stage in stages.items():
        if name in told.done:
            continue
        left = [other.share for key, other in stages.items() if key not in told.done]
        part = None if minutes is None else max(minutes - told.seconds / 60, 0.0) * stage.share / sum(left)
        limit = Limit(part, within=runs.limit)
        print(f"stage {name}" + ("" if part is None else f", {part:.1f} minutes"), flush=True)
        done = run_stage(name, stage, replace(runs, limit=limit))
        told.seconds += limit.seconds()
        if done or (limit.ends and not runs.limit(0)):
            told.done.append(name)
        with writing(record.name, runs.folder):
            replace_durable(record, (json.dumps(asdict(told)) + "\n").encode())
        if name not in told.done:
            return False
    return True
