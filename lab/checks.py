"""What can be refused of the settings of a script before it begins: an hour of scores must not end in a mistake."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from longtake.errors import InputError
from longtake.models import model_spec
from longtake.samplers import preset_settings
from longtake.samplers.fifo.plan import Fifo

WRITTEN = ("report", "sheet", "picture")
"""Fields that name a file to write."""
PLACES = ("folder", "runs")
"""Fields that name a folder, which may not be there yet."""
MAY_BE_0 = ("padding", "top_k", "call")
"""Numbers of which 0 means something."""


def check_settings(settings: Any, report: Path | None) -> None:
    """Raise InputError for files that cannot be written, numbers and lists of nothing, and names that there are not."""
    check_written("--report", report)
    for field in fields(settings):
        value, option = getattr(settings, field.name), f"--{field.name.replace('_', '-')}"
        match field.name, value:
            case name, Path() if name in WRITTEN:
                check_written(option, value)
            case name, Path() if name in PLACES and value.exists() and not value.is_dir():
                raise InputError(f"{option} {value} is a file, but a folder is meant; choose another one")
            case "model", str():
                model_spec(value)
            case "preset", str():
                fifo_preset(value)
            case name, int() | float() if not isinstance(value, bool):
                if value < 0 or (value == 0 and name not in MAY_BE_0):
                    raise InputError(f"{option} {value:g} is too small; give a number above 0")
            case _, () if field.default:
                raise InputError(f"{option} names nothing; leave it out, or name some")
            case _:
                pass


def check_written(option: str, file: Path | None) -> None:
    """Raise InputError for a file that cannot be written, told of by its option."""
    if file is None:
        return
    if file.is_dir():
        raise InputError(f"cannot write {option} {file}: it is a folder; name a file")
    if not file.absolute().parent.is_dir():
        raise InputError(f"cannot write {option} {file}: the folder {file.parent} does not exist; create it first")


def fifo_preset(name: str) -> Fifo:
    """Return the settings of a preset. Raises InputError for one of another sampler, and for an unknown name."""
    settings = preset_settings(name)
    if not isinstance(settings, Fifo):
        raise InputError(f"--preset {name} is one of {settings.name}, and FIFO-Diffusion is measured; name one of fifo")
    return settings
