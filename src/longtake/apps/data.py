"""`longtake data`: a look at the training data."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from longtake.apps.arguments import Flag, parse_arguments
from longtake.errors import InputError, OutputError


@dataclass(frozen=True, kw_only=True)
class SpritesSettings:
    """Look at the endless sprite worlds, from which the embedded model learned."""

    preview: Flag = False
    """Write a contact sheet of objects, scenes and motions."""
    output: Annotated[Path, arg(aliases=["-o"], metavar="PATH")] = Path("sprites.png")
    """Where to, a .png."""
    overwrite: Flag = False
    """Replace a file that is there."""
    json: Flag = False
    """Print one JSON object."""


def sprites_command(arguments: Sequence[str]) -> int:
    """Write the contact sheet."""
    settings = parse_arguments(SpritesSettings, "data sprites", arguments)
    if not settings.preview:
        raise InputError("there is nothing to do; --preview writes a contact sheet")
    path = settings.output
    if path.suffix.lower() != ".png" or path.is_dir():
        raise OutputError(f"cannot write {path}: the contact sheet is a picture; use a name that ends in .png")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"cannot write {path}: the folder {path.absolute().parent} does not exist; create it first")
    if path.exists() and not settings.overwrite:
        raise OutputError(f"{path} exists; choose another name, or --overwrite it")
    from longtake.data.sprites import preview

    sheet = preview()
    sheet.save(path)
    if settings.json:
        print(json.dumps({"file": str(path), "width": sheet.width, "height": sheet.height}))
    else:
        print(f"{path}: {sheet.width}x{sheet.height}")
    return 0
