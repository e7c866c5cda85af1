"""`longtake train`: the models that the package ships, made again."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from longtake.apps.arguments import parse_arguments
from longtake.errors import MissingExtraError, OutputError


def judge_command(arguments: Sequence[str]) -> int:
    """Train the judge."""
    from longtake.train.judge import JudgeTraining, train_judge

    @dataclass(frozen=True, kw_only=True)
    class JudgeSettings:
        """Train the classifier of object, scene and motion that scores videos of the sprite worlds."""

        training: Annotated[JudgeTraining, arg(name="")] = JudgeTraining()
        output: Annotated[Path, arg(aliases=["-o"], metavar="FOLDER")] = Path("judge")
        """Folder for judge.safetensors and judge.json."""

    settings = parse_arguments(JudgeSettings, "train judge", arguments)
    _check_folder(settings.output)
    train_judge(settings.output, settings.training)
    return 0


def _check_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise OutputError(f"cannot write to {path}: it is a file, but a folder is meant; choose another -o")


def _need_extra() -> None:
    for package in ("accelerate", "tensorboard"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "train")
