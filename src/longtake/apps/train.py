"""`longtake train`: the models that the package ships, made again stage by stage."""

import contextlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from longtake.apps.arguments import Flag, parse_arguments
from longtake.apps.settings import Device
from longtake.errors import InputError, MissingExtraError, OutputError, unknown_name
from longtake.ranks.torchrun import launched
from longtake.train.fit.limit import Limit
from longtake.train.fit.settings import FitSettings

if TYPE_CHECKING:
    from longtake.train.fit.job import Job

STAGES = (
    *("vae", "text", "pictures", "clips", "images", "uniform", "mixture", "longer", "decoder", "stretches", "mtd"),
    *("pvdm-autoencoder", "pvdm-latents", "pvdm-unet", "weights"),
)


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """Train the classifier of object, scene and motion that scores videos of the sprite worlds."""

    output: Annotated[Path, arg(aliases=["-o"], metavar="FOLDER")] = Path("judge")
    """Folder for judge.safetensors and judge.json."""
    seed: int = 0
    """Seed of the weights, the worlds and their spoiling."""
    json: Flag = False
    """Print one JSON object on standard output, and nothing else there."""


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


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where to train, and how long."""

    device: Device = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    minutes: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="(default: until it is done)")] = None
    """Save and stop after this time; where the learning rate falls, it falls by the share of it that has passed."""
    json: Flag = False
    """Print one JSON object on standard output, and nothing else there."""


@dataclass(frozen=True, kw_only=True)
class EmbeddedSettings:
    """Train the models of the package again: all of them, or one stage. What was interrupted continues."""

    stage: Annotated[Positional[str | None], arg(metavar="all|STAGE", help_behavior_hint="")] = None
    """They build on each other in this order: vae text pictures clips images uniform mixture longer decoder (sprites),
    stretches mtd (nuwa-sprites), pvdm-autoencoder pvdm-latents pvdm-unet (pvdm-sprites), weights (FOLDER/weights)."""
    runs: Annotated[Path, arg(metavar="FOLDER")] = Path("runs")
    """Folder that all stages share."""
    where: Annotated[Where, arg(name="")] = Where()


def embedded_command(arguments: Sequence[str]) -> int:
    """Train the embedded models."""
    settings = parse_arguments(EmbeddedSettings, "train embedded", arguments)
    where, name = settings.where, settings.stage
    if name is None:
        raise InputError("what to train is missing; write all, or the name of a stage")
    if name not in ("all", *STAGES):
        raise unknown_name("stage", name, ("all", *STAGES))
    check_minutes(where.minutes)
    check_output(settings.runs)
    check_packages()
    import torch

    from longtake.apps.hardware import choose_hardware
    from longtake.train import embedded
    from longtake.train.fit.runs import Runs, run_stage, run_stages

    device, began = torch.device(choose_hardware(where.device, "float32").device), time.monotonic()
    settings.runs.mkdir(parents=True, exist_ok=True)
    with contextlib.redirect_stdout(sys.stderr), Limit(where.minutes if name != "all" else None) as limit:
        runs = Runs(folder=settings.runs, device=device, limit=limit)
        if name == "all":
            done = run_stages(embedded.STAGES, runs, where.minutes)
        else:
            done = run_stage(name, embedded.STAGES[name], runs)
        if not done:
            print(f"stopped; the same command continues in {settings.runs}")
    if where.json:
        told = {"stage": name, "runs": str(settings.runs), "finished": done}
        models = [str(folder) for folder in embedded.exported(settings.runs)]
        print(json.dumps({**told, "models": models, "seconds": round(time.monotonic() - began, 1)}))
    return 0 if limit.signal is None else 128 + limit.signal


def run_training(
    output: Path, fit: FitSettings, where: Where, smaller: str, train: "Callable[[Callable[..., Job]], bool]"
) -> int:
    """Check what can be checked of a run, and train in the folder `output`; return the exit status.

    `train` takes what makes the job of recordings and settings, and returns whether the run is finished; it may be
    called in several processes of a job, and what it prints goes to standard error. `smaller` says what needs less
    memory.
    """
    check_minutes(where.minutes)
    check_output(output)
    fit.check_processes(launched().size)
    check_packages()
    began = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr), Limit(where.minutes) as limit:
        done = _trained(output, fit, where.device, smaller, train, limit)
        if not done and launched().rank == 0:
            print(f"stopped; the same command continues the run in {output}")
    if where.json and launched().rank == 0:
        seconds = round(time.monotonic() - began, 1)
        print(json.dumps({"folder": str(output), "finished": done, "seconds": seconds}))
    return 0 if limit.signal is None else 128 + limit.signal


def _trained(
    output: Path,
    fit: FitSettings,
    wanted: Device,
    smaller: str,
    train: "Callable[[Callable[..., Job]], bool]",
    limit: Limit,
) -> bool:
    import torch

    from longtake.apps.hardware import choose_hardware
    from longtake.ranks.rendezvous import joined_world
    from longtake.train.fit.job import Job
    from longtake.train.fit.memory import memory_advice

    device = choose_hardware(wanted, "float32").device
    fit.check_device(device)
    with joined_world(device) as world, memory_advice(smaller):
        return train(partial(Job, folder=output, device=torch.device(device), world=world, limit=limit))


def check_packages() -> None:
    """Raise MissingExtraError without what all training needs."""
    for package in ("accelerate", "tensorboard"):
        need(package, "train")


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
