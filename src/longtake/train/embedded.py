"""How the models of the package are trained, all of them: one folder of runs, stage after stage, then the weights.

Everything comes from the folder of runs and nothing from the installed package, unless that is what the folder begins
with.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from longtake.errors import InputError, OutputError
from longtake.models.hub.load import quiet_libraries
from longtake.train.fit.runs import Runs, Stage
from longtake.train.fit.writing import writing
from longtake.train.nuwa_xl import recipe as nuwa_xl
from longtake.train.pvdm import recipe as pvdm
from longtake.train.sprites import recipe as sprites
from longtake.train.sprites.stages import take_package, write_weights


def begin(runs: Runs) -> bool:
    """Fill a new folder with what the package holds, from which every stage goes on.

    Raises OutputError where a stage has begun there.
    """
    begun = sorted(name for name in STAGES if (runs.folder / name).exists())
    if begun:
        raise OutputError(f"{runs.folder} has a stage {begun[0]} already; name a new folder by --runs")
    print(f"package: its weights are copied to {runs.folder}", flush=True)
    return _in_place(runs.folder / "package", runs.folder, lambda new: _take(replace(runs, folder=new)))


def _take(runs: Runs) -> bool:
    pvdm.take_package(runs)
    return take_package(runs)


def export(runs: Runs) -> bool:
    """Write the five model folders into `weights/`, as the package holds them, in place of earlier ones."""

    def write(new: Path) -> bool:
        writers = (partial(write_weights, sprites.GUIDANCE), nuwa_xl.write_weights, pvdm.write_weights)
        for each in writers:
            if runs.limit.signalled():
                return False
            each(runs, new)
        return True

    print(f"weights: the models are written to {runs.folder / 'weights'}", flush=True)
    return _in_place(runs.folder / "weights", runs.folder / "weights", write)


def _in_place(stage: Path, folder: Path, write: Callable[[Path], bool]) -> bool:
    """Put into a folder what `write` writes into a new one, once all of it is there, in place of what has its names;
    return whether all of it is.

    What was interrupted leaves nothing but the new folder, inside that of the stage.
    """
    new = stage / "new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        with quiet_libraries(), writing("the models", stage):
            done = write(new)
    except (InputError, OutputError):
        shutil.rmtree(new)
        raise
    if not done:
        shutil.rmtree(new)
        return False
    for made in sorted(new.iterdir()):
        there = folder / made.name
        if there.is_dir():
            shutil.rmtree(there)
        made.replace(there)
    new.rmdir()
    return True


STAGES = {
    **sprites.STAGES,
    **nuwa_xl.STAGES,
    **pvdm.STAGES,
    "weights": Stage(run=export, settings=(), share=1),
}
"""Name -> stage, in the order they run in."""


PACKAGE = {"package": Stage(run=begin, settings=(), share=1)}
"""In place of what earlier stages train."""


def exported(runs: Path) -> list[Path]:
    """Return the model folders that the last stage has written."""
    return sorted(folder.parent for folder in (runs / "weights").glob("*/model_index.json"))
