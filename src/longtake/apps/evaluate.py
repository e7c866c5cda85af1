"""`longtake evaluate NAME`: every metric of the table, with its own dataclass as arguments."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from longtake.apps.arguments import Answer, parse_arguments
from longtake.apps.shown import print_figures, say
from longtake.lazy import named
from longtake.metrics import METRICS
from longtake.metrics.metric import Metric
from longtake.typed import Setting


def evaluate_command(arguments: Sequence[str]) -> int:
    """Print the figures of a metric, whose name comes first; return the exit status."""
    name, *options = arguments
    metric, as_json = _parsed(named(METRICS[name].kind), name, options)
    figures = metric.measure()
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        print_figures(figures, metric.spoken)
    for warning in figures.get("warnings", ()):
        say(f"longtake: {warning}")
    return 0


def _parsed(kind: type[Metric], name: str, arguments: Sequence[str]) -> tuple[Metric, bool]:
    @dataclass(frozen=True, kw_only=True)
    class Settings(Answer):
        metric: Annotated[kind, Setting(name="")]  # pyright: ignore[reportInvalidTypeForm]

    Settings.__doc__ = kind.__doc__
    settings: Any = parse_arguments(Settings, f"evaluate {name}", arguments)
    return settings.metric, settings.json
