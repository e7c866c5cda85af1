"""`longtake train`: the models that the package ships, made again stage by stage."""

import contextlib
import importlib.util
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from tyro.conf import Positional, arg

from longtake.apps.arguments import Flag, parse_arguments
from longtake.errors import InputError, MissingExtraError, OutputError
from longtake.ranks.torchrun import launched
from longtake.train.fit.settings import FitSettings

Stage = Literal["vae", "text", "pictures", "clips", "images", "uniform", "mixture", "longer", "decoder", "weights"]


@dataclass(frozen=True, kw_only=True)
class SpritesSettings:
    """Run one stage of the embedded model's training; a stage that was interrupted continues."""

    stage: Positional[Stage]
    """They build on each other in this order; weights assembles the models in FOLDER/weights."""
    runs: Annotated[Path, arg(metavar="FOLDER")] = Path("runs")
    """Folder that all stages share."""
    minutes: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="(default: until it is done)")] = None
    """Save and stop after this time."""
    json: Flag = False
    """Print one JSON object on standard output, and nothing else there."""


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """Train the classifier of object, scene and motion that scores videos of the sprite worlds."""

    output: Annotated[Path, arg(aliases=["-o"], metavar="FOLDER")] = Path("judge")
    """Folder for judge.safetensors and judge.json."""
    seed: int = 0
    """Seed of the weights, the worlds and their spoiling."""
    json: Flag = False
    """Print one JSON object on standard output, and nothing else there."""


class Limit:
    """Says when training has to stop: at a time, or when a signal asks for it. Signals are heard inside `with`."""

    def __init__(self, minutes: float | None) -> None:
        self._end = None if minutes is None else time.monotonic() + 60 * minutes
        self.signal: int | None = None

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: object) -> None:
        self.signal = number

    def __call__(self, step: int) -> bool:
        """Whether to end before this step."""
        return self.signal is not None or (self._end is not None and time.monotonic() > self._end)


def sprites_command(arguments: Sequence[str]) -> int:
    """Run a stage of the embedded model's training."""
    settings = parse_arguments(SpritesSettings, "train sprites", arguments)
    check_minutes(settings.minutes)
    check_output(settings.runs)
    for package in ("accelerate", "tensorboard"):
        need(package, "train")
    # Training needs diffusers and accelerate, which take seconds to import.
    from longtake.train.sprites.recipe import GUIDANCE, STAGES
    from longtake.train.sprites.stages import write_weights

    began = time.monotonic()
    settings.runs.mkdir(parents=True, exist_ok=True)
    with contextlib.redirect_stdout(sys.stderr), Limit(settings.minutes) as limit:
        if settings.stage == "weights":
            write_weights(GUIDANCE, settings.runs, settings.runs / "weights")
        else:
            STAGES[settings.stage](settings.runs, limit)
    if settings.json:
        seconds = round(time.monotonic() - began, 1)
        print(json.dumps({"stage": settings.stage, "runs": str(settings.runs), "seconds": seconds}))
    return 0 if limit.signal is None else 128 + limit.signal


def judge_command(arguments: Sequence[str]) -> int:
    """Train the judge."""
    settings = parse_arguments(JudgeSettings, "train judge", arguments)
    check_output(settings.output)
    from longtake.train.judge.classifier import JudgeTraining, train_judge

    began = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr):
        train_judge(settings.output, JudgeTraining(seed=settings.seed))
    if settings.json:
        print(json.dumps({"folder": str(settings.output), "seconds": round(time.monotonic() - began, 1)}))
    return 0


def run_training(
    output: Path, minutes: float | None, fit: FitSettings, *, as_json: bool, train: Callable[[Limit], bool]
) -> int:
    """Check what can be checked of a run, and train in the folder `output`; return the exit status.

    `train` returns whether the run is finished; it may be called in several processes of a job, and what it prints goes
    to standard error.
    """
    check_minutes(minutes)
    check_output(output)
    fit.check_processes(launched().size)
    for package in ("accelerate", "tensorboard"):
        need(package, "train")
    began = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr), Limit(minutes) as limit:
        done = train(limit)
        if not done and launched().rank == 0:
            print(f"stopped; the same command continues the run in {output}")
    if as_json and launched().rank == 0:
        seconds = round(time.monotonic() - began, 1)
        print(json.dumps({"folder": str(output), "finished": done, "seconds": seconds}))
    return 0 if limit.signal is None else 128 + limit.signal


def need(package: str, extra: str) -> None:
    """Raise MissingExtraError for a package that is not installed."""
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(package.replace("_", "-"), extra)


def check_minutes(minutes: float | None) -> None:
    """Raise InputError for no time at all."""
    if minutes is not None and not minutes > 0:
        raise InputError(f"{minutes:g} minutes are no time to train; give more than 0")


def check_output(path: Path) -> None:
    """Raise OutputError for a place that cannot become a folder."""
    if path.exists() and not path.is_dir():
        raise OutputError(f"cannot write to {path}: it is a file, but a folder is meant; choose another one")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"cannot write to {path}: {path.absolute().parent} does not exist; create it first")
