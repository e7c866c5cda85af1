"""How the models of the package are trained, all of them: one folder of runs, stage after stage, then the weights.

Everything comes from the folder of runs and nothing from the installed package.
"""

import shutil
from pathlib import Path

from longtake.train.fit.runs import Runs, Stage
from longtake.train.nuwa_xl import recipe as nuwa_xl
from longtake.train.pvdm import recipe as pvdm
from longtake.train.sprites import recipe as sprites
from longtake.train.sprites.stages import write_weights


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


def exported(runs: Path) -> list[Path]:
    """Return the model folders that the last stage has written."""
    return sorted(folder.parent for folder in (runs / "weights").glob("*/model_index.json"))
