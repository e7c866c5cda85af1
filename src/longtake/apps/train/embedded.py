"""`longtake train embedded` and `longtake train judge`: what the package ships, made again."""

import contextlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from longtake.apps.arguments import Answer, parse_arguments
from longtake.apps.train.session import Session, check_output, check_session, exit_status
from longtake.errors import InputError, unknown_name
from longtake.models.hub.precision import choose_hardware
from longtake.typed import Setting, Typed

STAGES = (
    *("vae", "text", "pictures", "clips", "images", "uniform", "mixture", "longer", "further"),
    *("switches", "fast", "decoder", "stretches", "mtd"),
    *("pvdm-autoencoder", "pvdm-latents", "pvdm-unet", "pvdm-decoder", "weights"),
)


@dataclass(frozen=True, kw_only=True)
class EmbeddedSettings(Typed):
    """Train the models of the package again: all of them, or one stage. What was interrupted continues.

    The stages up to further took 4 hours on two processor cores, switches and fast 2 more on one (docs/models/ has what
    every model took). All of them in little, to see them run: longtake train embedded all --runs try --minutes 30."""

    stage: Annotated[str | None, Setting(positional=True, metavar="all|package|STAGE")] = None
    """package fills a new FOLDER with the weights that are installed, for a stage to go on from. Stages build on each
    other in this order: vae text pictures clips images uniform mixture longer further switches fast decoder
    (sprites and its siblings), stretches mtd (nuwa-sprites), pvdm-autoencoder pvdm-latents pvdm-unet
    pvdm-decoder (pvdm-sprites), weights (FOLDER/weights)."""
    runs: Annotated[Path, Setting(metavar="FOLDER")] = Path("runs")
    """Folder that all stages share."""
    session: Annotated[Session, Setting(name="")] = Session()


@dataclass(frozen=True, kw_only=True)
class JudgeSettings(Answer):
    """Train the classifier of object, scene and motion that scores videos of the sprite worlds."""

    output: Annotated[Path, Setting(short="-o", metavar="FOLDER")] = Path("judge")
    """Folder for judge.safetensors and judge.json."""
    seed: int = 0
    """Seed of the weights, the worlds and their spoiling."""


def embedded_command(arguments: Sequence[str]) -> int:
    """Train the embedded models."""
    settings = parse_arguments(EmbeddedSettings, "train embedded", arguments)
    session, name = settings.session, settings.stage
    if name is None:
        raise InputError("what to train is missing; write all, or the name of a stage")
    if name not in (names := ("all", "package", *STAGES)):
        raise unknown_name("stage", name, names)
    check_session(settings.runs, session.minutes)
    import torch

    from longtake.train import embedded
    from longtake.train.fit.runs import Runs, run_named

    began = time.monotonic()
    runs = Runs(folder=settings.runs, device=torch.device(choose_hardware(session.device, "float32").device))
    stages = embedded.PACKAGE if name == "package" else embedded.STAGES
    with contextlib.redirect_stdout(sys.stderr):
        done, limit = run_named(stages, name, runs, session.minutes)
        if not done:
            print(f"stopped; the same command continues in {settings.runs}")
    if session.json:
        told = {"stage": name, "runs": str(settings.runs), "finished": done}
        models = [str(folder) for folder in embedded.exported(settings.runs)]
        print(json.dumps({**told, "models": models, "seconds": round(time.monotonic() - began, 1)}))
    return exit_status(limit)


def judge_command(arguments: Sequence[str]) -> int:
    """Train the judge."""
    settings = parse_arguments(JudgeSettings, "train judge", arguments)
    check_output(settings.output)
    from longtake.train.judge import train_judge

    began = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr):
        train_judge(settings.output, settings.seed)
    if settings.json:
        print(json.dumps({"folder": str(settings.output), "seconds": round(time.monotonic() - began, 1)}))
    return 0
