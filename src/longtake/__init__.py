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
    from longtake.pipeline import LongVideoPipeline
    from longtake.ranks.rendezvous import joined_world
    from longtake.request import PromptTimeline, Request
    from longtake.steer.run import extend, redo
    from longtake.video.output import Output

__version__ = "0.1.0"

__all__ = [
    "CapabilityError",
    "CheckpointError",
    "InputError",
    "LongVideoPipeline",
    "LongtakeError",
    "MissingExtraError",
    "Output",
    "OutputError",
    "PromptTimeline",
    "RanksError",
    "Request",
    "extend",
    "from_pipe",
    "generate",
    "joined_world",
    "load_model",
    "redo",
    "stream",
]

# Errors are in longtake.errors.
_HOMES = {
    "LongVideoPipeline": "longtake.pipeline",
    "Output": "longtake.video.output",
    "PromptTimeline": "longtake.request",
    "Request": "longtake.request",
    "extend": "longtake.steer.run",
    "from_pipe": "longtake.models",
    "generate": "longtake._generate",
    "joined_world": "longtake.ranks.rendezvous",
    "load_model": "longtake.models",
    "redo": "longtake.steer.run",
    "stream": "longtake._generate",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = named(f"{_HOMES.get(name, 'longtake.errors')}:{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
