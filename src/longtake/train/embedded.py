"""How the models of the package are trained, all of them: one folder of runs, stage after stage, then the weights.

Everything comes from the folder of runs and nothing from the installed package.
"""

import shutil
from pathlib import Path

from longtake.train.fit.runs import Runs, Stage
from longtake.train.nuwa_xl import embedded_stages as nuwa_xl
from longtake.train.nuwa_xl import recipe as nuwa_xl_recipe
from longtake.train.pvdm import recipe as pvdm_recipe
from longtake.train.sprites import recipe as sprites_recipe
from longtake.train.sprites import stages as sprites


def export(runs: Runs) -> bool:
    """Write the four model folders into `weights/`, as the package holds them, in place of earlier ones."""
    weights, new = runs.folder / "weights", runs.folder / "weights" / "new"
    shutil.rmtree(new, ignore_errors=True)
    sprites.write_weights(sprites_recipe.GUIDANCE, runs, new)
    nuwa_xl.write_weights(nuwa_xl_recipe.GUIDANCE, nuwa_xl_recipe.INFILL_GUIDANCE, runs, new)
    pvdm_recipe.write_weights(pvdm_recipe.GUIDANCE, runs, new)
    for folder in sorted(new.iterdir()):
        shutil.rmtree(weights / folder.name, ignore_errors=True)
        folder.rename(weights / folder.name)
    new.rmdir()
    return True


STAGES = {
    **sprites_recipe.STAGES,
    **nuwa_xl_recipe.STAGES,
    **pvdm_recipe.STAGES,
    "weights": Stage(run=export, settings=(), share=1),
}
"""Name -> stage, in the order they run in."""


def exported(runs: Path) -> list[Path]:
    """Return the model folders that the last stage has written."""
    return sorted(folder.parent for folder in (runs / "weights").glob("*/model_index.json"))
