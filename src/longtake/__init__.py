"""longtake makes long video from models that were trained on short clips.

The names below are imported when they are first used: importing the package costs next to nothing, and loads no torch.
"""

from typing import TYPE_CHECKING

from longtake.lazy import named

if TYPE_CHECKING:
    from longtake._generate import generate, stream
    from longtake.errors import (
        CapabilityError,
        CheckpointError,
        InputError,
        LongtakeError,
        MissingExtraError,
        OutputError,
        RanksError,
    )
    from longtake.models import from_pipe, load_model
    from longtake.ranks.rendezvous import joined_world
    from longtake.request import PromptTimeline, Request
    from longtake.video.output import Output

__version__ = "0.1.0"

__all__ = [
    "CapabilityError",
    "CheckpointError",
    "InputError",
    "LongtakeError",
    "MissingExtraError",
    "Output",
    "OutputError",
    "PromptTimeline",
    "RanksError",
    "Request",
    "from_pipe",
    "generate",
    "joined_world",
    "load_model",
    "stream",
]

_HOMES = {
    "CapabilityError": "longtake.errors",
    "CheckpointError": "longtake.errors",
    "InputError": "longtake.errors",
    "LongtakeError": "longtake.errors",
    "MissingExtraError": "longtake.errors",
    "Output": "longtake.video.output",
    "OutputError": "longtake.errors",
    "PromptTimeline": "longtake.request",
    "RanksError": "longtake.errors",
    "Request": "longtake.request",
    "from_pipe": "longtake.models",
    "generate": "longtake._generate",
    "joined_world": "longtake.ranks.rendezvous",
    "load_model": "longtake.models",
    "stream": "longtake._generate",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = named(f"{_HOMES[name]}:{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
