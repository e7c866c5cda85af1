"""What every training target promises, row by row of the commands, on the smallest network it takes.

A command that trains in a folder of its own, and has no row in `TINY`, fails.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from longtake.apps.cli import COMMANDS

from .test_train_adapt import SMALL as SMALL_LORA
from .test_train_adapt import start as adapted
from .test_train_nuwa import TINY as TINY_NUWA
from .test_train_nuwa import episodes, start
from .test_train_pvdm import TINY_AUTOENCODER, TINY_UNET

STAGES = {"train embedded", "train judge"}
"""Many models in one folder, and one that is trained at a stretch."""
TARGETS = [name for name in COMMANDS if name.startswith("train ") and name not in STAGES]
WORLDS = ["sprites", "--worlds=2", "--world-frames=16", "--precision=no"]


def _pvdm(longtake: Callable) -> list[str]:
    ran = longtake("train", "pvdm-autoencoder", *WORLDS, *TINY_AUTOENCODER, "--steps=1", "-o", "first")
    assert ran.status == 0, ran.err
    return [*WORLDS, "--autoencoder=first", *TINY_UNET]


def _nuwa_xl(longtake: Callable) -> list[str]:
    episodes()
    start()
    return ["episodes", *TINY_NUWA]


def _adapt(longtake: Callable) -> list[str]:
    episodes()
    adapted()
    return ["episodes", "--base=base", *SMALL_LORA]


TINY: dict[str, Callable[[Callable], list[str]]] = {
    "train pvdm-autoencoder": lambda longtake: [*WORLDS, *TINY_AUTOENCODER],
    "train pvdm": _pvdm,
    "train nuwa-xl": _nuwa_xl,
    "train adapt": _adapt,
}
"""Command -> what prepares the folder that it is run in, and returns its arguments but for steps and output."""


def left(folder: str) -> dict[str, bytes]:
    """Return the weights of a run by the names of their files."""
    final = Path(folder, "final")
    return {str(file.relative_to(final)): file.read_bytes() for file in final.rglob("*.safetensors")}


@pytest.mark.parametrize("command", TARGETS)
def test_a_run_that_is_stopped_or_given_more_steps_ends_with_the_same_weights(
    longtake: Callable, one_thread: None, command: str
) -> None:
    arguments = [*command.split(), *TINY[command](longtake)]

    def trained(folder: str, *more: str) -> None:
        ran = longtake(*arguments, "-o", folder, *more)
        assert ran.status == 0, ran.err

    trained("whole", "--steps=3")
    trained("stopped", "--steps=3", "--minutes=0.0000001")
    trained("stopped", "--steps=3")
    trained("longer", "--steps=1")
    trained("longer", "--steps=3")
    assert left("whole") and left("whole") == left("stopped") == left("longer")
    other = longtake(*arguments, "-o", "whole", "--steps=3", "--learning-rate=0.5")
    assert other.status == 2 and "was begun with learning rate" in other.err and other.err.count("\n") == 1
