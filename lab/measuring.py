"""What the scripts that measure share: the model as the command line would run it, and the report."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch

from longtake.model import VideoModel
from longtake.models import load_model
from longtake.models.hub.precision import auto_dtype

Kind = TypeVar("Kind", bound=VideoModel)


def measured_model(name: str, kind: type[Kind]) -> tuple[Kind, str, str]:
    """Load a model on the CPU in the number format that `auto` chooses; return it with the format and the reason."""
    dtype, reason = auto_dtype("cpu")
    model = load_model(name, dtype=getattr(torch, dtype))
    assert isinstance(model, kind), f"{name} is no {kind.__name__}"
    return model, dtype, reason


def publish(report: Mapping[str, object], path: Path | None) -> None:
    """Print a report as JSON, and write it to `path` where one is given."""
    text = json.dumps(report, indent=2)
    print(text)
    if path:
        path.write_text(text + "\n")
