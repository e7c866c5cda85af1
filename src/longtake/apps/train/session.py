"""What every command that trains has in common: how long, where, and an end in good order."""

import contextlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from longtake.apps.arguments import Computing
from longtake.errors import InputError, MissingExtraError
from longtake.models.hub.precision import choose_hardware
from longtake.ranks.torchrun import launched
from longtake.reading import refuse_file, refuse_no_place, refuse_unwritable
from longtake.train.fit.limit import Limit
from longtake.train.fit.settings import FitSettings
from longtake.typed import Setting

if TYPE_CHECKING:
    from longtake.train.fit.job import Job


@dataclass(frozen=True, kw_only=True)
class Session(Computing):
    """One call of a command that trains: where, and how long."""

    minutes: Annotated[float | None, Setting(metavar="FLOAT", unset="until it is done")] = None
    """Save and stop after this time; where the learning rate falls, it falls by the share of it that has passed."""


@dataclass(frozen=True, kw_only=True)
class RunSession(Session):
    """One call of a command that trains in a folder of its own."""

    output: Annotated[Path, Setting(short="-o", metavar="FOLDER")] = Path("run")
    """The run's folder: latents, checkpoints, pictures, TensorBoard, and in the end final/."""


def exit_status(limit: Limit) -> int:
    """Return the status of a process that trained under a limit: that of a signal, where one ended it."""
    return 0 if limit.signal is None else 128 + limit.signal


def check_session(folder: Path, minutes: float | None) -> None:
    """Raise InputError for no time at all, OutputError for no folder, MissingExtraError for lacking packages."""
    if minutes is not None and not minutes > 0:
        raise InputError(f"{minutes:g} minutes are no time to train; give more than 0")
    check_output(folder)
    for package in ("accelerate", "tensorboard"):
        need(package, "train")


def run_training(
    session: RunSession, fit: FitSettings, *, smaller: str, train: "Callable[[Callable[..., Job]], bool]"
) -> int:
    """Check what can be checked of a run, and train in its folder; return the exit status.

    `train` opens the recordings, completes the job that it is given (`train`, `shown` and `settings` of `Job` are open)
    and returns whether the run is finished. It may be called in several processes of a job, and what it prints goes to
    standard error. `smaller` says what to try where memory does not suffice.
    """
    fit.check_processes(launched().size)
    check_session(session.output, session.minutes)
    began = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr), Limit(session.minutes) as limit:
        done = _trained(session, fit, limit, smaller, train)
        if not done and launched().rank == 0:
            print(f"stopped; the same command continues the run in {session.output}")
    if session.json and launched().rank == 0:
        seconds = round(time.monotonic() - began, 1)
        print(json.dumps({"folder": str(session.output), "finished": done, "seconds": seconds}))
    return exit_status(limit)


def _trained(
    session: RunSession,
    fit: FitSettings,
    limit: Limit,
    smaller: str,
    train: "Callable[[Callable[..., Job]], bool]",
) -> bool:
    import torch

    from longtake.ranks.rendezvous import joined_world
    from longtake.train.fit.job import Job, memory_advice

    if session.device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {session.device} is not for training, which takes auto, cpu or cuda")
    device = choose_hardware(session.device, "float32").device
    fit.check_device(device)
    with joined_world(device) as world, memory_advice(smaller):
        return train(partial(Job, folder=session.output, device=torch.device(device), world=world, limit=limit))


def need(package: str, extra: str) -> None:
    """Raise MissingExtraError for a package that is not installed."""
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(package.replace("_", "-"), extra)


def check_output(path: Path) -> None:
    """Raise OutputError for a place that cannot become a folder."""
    refuse_file(path)
    refuse_no_place(path, folder=True)
    refuse_unwritable(path, path if path.exists() else path.absolute().parent)
