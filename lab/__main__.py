"""Everything that the laboratory runs: python -m lab NAME [--options] [--report FILE]."""

import ast
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, get_type_hints

import tyro
from tyro.conf import arg

from lab.checks import check_settings
from longtake.apps.arguments import in_one_line
from longtake.errors import LongtakeError, unknown_name

SCRIPTS = {
    "score bars": "lab.score.bars:score",
    "score sprites": "lab.score.sprites:score",
    "score autoencoder": "lab.score.autoencoder:score",
    "score pvdm": "lab.score.pvdm:score",
    "score pvdm-planes": "lab.score.pvdm_planes:draw",
    "score nuwa-xl": "lab.score.nuwa_xl:score",
    "score nuwa-xl-lengths": "lab.score.nuwa_xl_lengths:score",
    "score video-infinity": "lab.score.video_infinity:score",
    "score scenes": "lab.score.video_infinity_scenes:score",
    "score stand-in": "lab.score.stand_in:score",
    "score sprite-state": "lab.score.sprite_state:score",
    "score nearest-frame": "lab.score.nearest_frame:score",
    "score real-worlds": "lab.score.real_worlds:score",
    "score leaderboard": "lab.score.leaderboard:page",
    "score controls": "lab.score.ranking:score",
    "score stories": "lab.score.stories:lines",
    "score judge": "lab.score.judge:score",
    "ablate fifo": "lab.ablation.fifo:ablation",
    "ablate anchored": "lab.ablation.anchored:ablation",
    "ablate video-infinity": "lab.ablation.video_infinity:ablation",
    "ablate nuwa-xl": "lab.ablation.nuwa_xl:ablation",
    "measure fifo": "lab.measure.fifo:measure",
    "measure pvdm": "lab.measure.pvdm:measure",
    "measure nuwa-xl": "lab.measure.nuwa_xl:measure",
    "measure scaling": "lab.measure.scaling:measure",
    "measure gpu": "lab.measure.gpu:measure",
    "measure cards": "lab.measure.cards:measure",
    "measure memory": "lab.measure.length:measure",
    "measure resume": "lab.measure.resume:measure",
    "measure serve": "lab.measure.serve:measure",
    "measure teach": "lab.measure.teach:measure",
    "measure state-bytes": "lab.measure.state_bytes:measure",
    "film big-buck-bunny": "lab.film.big_buck_bunny:prepare",
    "film nuwa-xl": "lab.film.nuwa_xl:prepare",
}
"""Name -> a function of its settings, a dataclass whose fields are the options; it returns its report, if any."""

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Run(Generic[Settings]):
    """A script's own settings, and what all have."""

    settings: Annotated[Settings, arg(name="")]
    report: Path | None = None  # write the report here, too


def script(name: str) -> tuple[Callable[[Any], object], type]:
    """Return a script and the class of its settings. Raises InputError for an unknown name."""
    if name not in SCRIPTS:
        raise unknown_name("script", name, SCRIPTS)
    module, function = SCRIPTS[name].split(":")
    found = getattr(importlib.import_module(module), function)
    return found, next(iter(get_type_hints(found).values()))


def about(name: str) -> str:
    """Return what a script says of itself, without importing it."""
    spec = find_spec(SCRIPTS[name].split(":")[0])
    assert spec is not None and spec.origin is not None
    return ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""


def publish(report: object, path: Path | None) -> None:
    """Print a report as JSON, or as it is where it is a text, and write it to `path` where one is given."""
    text = report if isinstance(report, str) else json.dumps(report, indent=2)
    print(text)
    if path:
        path.write_text(text + "\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Run a script; return the exit status."""
    name, rest = " ".join(arguments[:2]), list(arguments[2:])
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__, *(f"  {name:22} {about(name).splitlines()[0]}" for name in SCRIPTS), sep="\n")
        return 0
    try:
        function, settings = script(name)
        program = f"python -m lab {name}"
        with in_one_line(program):
            run = tyro.cli(Run[settings], prog=program, description=about(name), args=rest)
        check_settings(run.settings, run.report)
        report = function(run.settings)
        if report is not None:
            publish(report, run.report)
    except LongtakeError as error:
        print(f"longtake: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
