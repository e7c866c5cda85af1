"""How the models of the package are trained, all of them: one folder of runs, stage after stage, then the weights.

Everything comes from the folder of runs and nothing from the installed package, unless that is what the folder begins
with.
"""

import shutil
from pathlib import Path

from longtake.errors import OutputError
from longtake.train.fit.runs import Runs, Stage
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
    return take_package(runs) and pvdm.take_package(runs)


def export(runs: Runs) -> bool:
    """Write the five model folders into `weights/`, as the package holds them, in place of earlier ones."""
    weights, new = runs.folder / "weights", runs.folder / "weights" / "new"
    shutil.rmtree(new, ignore_errors=True)
    write_weights(sprites.GUIDANCE, runs, new)
    nuwa_xl.write_weights(runs, new)
    pvdm.write_weights(runs, new)
    for folder in sorted(new.iterdir()):
        shutil.rmtree(weights / folder.name, ignore_errors=True)
        folder.rename(weights / folder.name)
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
