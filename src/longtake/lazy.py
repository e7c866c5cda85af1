"""Names as text, so that a table costs nothing until one of its rows is used."""

import importlib
from typing import Any


def named(name: str) -> Any:
    """Return what "module:name" names, importing its module now."""
    module, attribute = name.split(":")
    return getattr(importlib.import_module(module), attribute)
