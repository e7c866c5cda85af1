"""longtake makes long video from models that were trained on short clips.

The names below are imported when they are first used: importing the package costs next to nothing, and loads no torch.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from longtake.errors import (
        CapabilityError,
        CheckpointError,
        InputError,
        LongtakeError,
        MissingExtraError,
        OutputError,
        RanksError,
    )
    from longtake.generate import generate
    from longtake.join import joined_world
    from longtake.models import load_model
    from longtake.request import PromptTimeline, Request

__version__ = "0.1.0"

__all__ = [
    "CapabilityError",
    "CheckpointError",
    "InputError",
    "LongtakeError",
    "MissingExtraError",
    "OutputError",
    "PromptTimeline",
    "RanksError",
    "Request",
    "generate",
    "joined_world",
    "load_model",
]

_HOMES = {
    "CapabilityError": "longtake.errors",
    "CheckpointError": "longtake.errors",
    "InputError": "longtake.errors",
    "LongtakeError": "longtake.errors",
    "MissingExtraError": "longtake.errors",
    "OutputError": "longtake.errors",
    "PromptTimeline": "longtake.request",
    "RanksError": "longtake.errors",
    "Request": "longtake.request",
    "generate": "longtake.generate",
    "joined_world": "longtake.join",
    "load_model": "longtake.models",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]


class _Package(ModuleType):
    """Keeps `longtake.generate` the function: importing the module of that name would put the module in its place."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
