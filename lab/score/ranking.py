"""Which figure must rank which control last: a matrix that was frozen before the scores were taken, the scores of the
controls, and what they and those of samplers say of it."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from lab.common import prompts_of
from lab.score.real_worlds import controls, figures
from lab.score.stories import COMPARED, story, told
from longtake.apps.compare.finished import numbers, video_metrics
from longtake.apps.compare.report import facts
from longtake.data.sprites import Timeline
from longtake.report import Order
from longtake.request import Request
from longtake.samplers import sampler_class

REAL = "real"
"""The label of real worlds, in results whose other labels are controls."""
Worse = Literal["more", "less"]
Below = Literal["samplers", "real"]
"""Below what a control must rank: real worlds alone, or every sampler as well."""

MATRIX: Mapping[str, Mapping[str, tuple[Worse, Below]]] = {
    "frozen": {
        "drift: longest freeze": ("more", "samplers"),
        "prompts: motion": ("less", "samplers"),
        "state: phase": ("less", "samplers"),
    },
    "looped": {
        "drift: loop score": ("less", "samplers"),
        "prompts: motion": ("less", "samplers"),
        "state: phase": ("less", "real"),
    },
    "shuffled": {
        "drift: mean step": ("more", "samplers"),
        "prompts: motion": ("less", "samplers"),
        "state: steady": ("less", "real"),
        "state: phase": ("less", "real"),
    },
    "slide show": {
        "drift: longest freeze": ("more", "samplers"),
        "prompts: motion": ("less", "samplers"),
        "state: phase": ("less", "real"),
    },
    "drifted colours": {
        "drift: colour drift": ("more", "samplers"),
        "similarity: end": ("less", "samplers"),
        "state: kept after 64": ("less", "real"),
    },
    "copied seams": {
        "drift: loop score": ("less", "samplers"),
    },
    "wrong prompt": {
        "prompts: object": ("less", "samplers"),
        "prompts: scene": ("less", "samplers"),
        "prompts: motion": ("less", "samplers"),
        "state: object": ("less", "samplers"),
        "state: margin": ("less", "samplers"),
    },
    "melted": {
        "state: outline": ("less", "real"),
        "state: margin": ("less", "real"),
    },
}
"""Control -> figure -> which of its values are worse, and below what the control must rank. What melts shapes must rank
below real worlds alone: the embedded model is known to melt them as well."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What finished videos say of an entry of the matrix."""

    control: str
    figure: str
    value: float
    """The mean of the control's videos."""
    real: float
    worst: tuple[str, float] | None
    """The sampler that comes nearest to the control, or lies beyond it; None where only real worlds count, and where
    there are no samplers."""
    holds: bool
    """Whether the control ranks last."""


def means(videos: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the mean of every figure over the videos of each label, by the names that the leaderboard has."""
    found: dict[str, dict[str, list[float]]] = {}
    for video in videos:
        figures = found.setdefault(video["label"], {})
        for name, metric in video_metrics(",".join(video["figures"])).items():
            for figure, value in numbers(video["figures"][name], metric.spoken).items():
                figures.setdefault(f"{name}: {figure}", []).append(value)
    return {label: {name: fmean(values) for name, values in each.items()} for label, each in found.items()}


def verdicts(controls: Sequence[Mapping[str, Any]], samplers: Sequence[Mapping[str, Any]]) -> Iterator[Verdict]:
    """Yield what videos say of the entries of the matrix that have been measured, in its order; both are those of
    results.json."""
    spoilt, made = means(controls), means(samplers)
    for control, entries in MATRIX.items():
        for figure, (worse, below) in entries.items():
            if figure not in spoilt.get(control, {}):
                continue
            sign = 1 if worse == "more" else -1
            values = {label: each[figure] for label, each in made.items() if figure in each and below == "samplers"}
            worst = max(values, key=lambda label: sign * values[label], default=None)
            value, real = spoilt[control][figure], spoilt[REAL][figure]
            yield Verdict(
                control=control,
                figure=figure,
                value=value,
                real=real,
                worst=None if worst is None else (worst, values[worst]),
                holds=all(sign * value > sign * other for other in (real, *values.values())),
            )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which stories are spoilt, and what is measured."""

    episodes: tuple[int, ...] = COMPARED
    frames: int = 256  # of each
    metrics: str = "prompts,drift,similarity,switches,state"


def score(chosen: Settings) -> str:
    """Return the scores of real worlds and of all controls in the schema of results.json, a line for every video."""
    metrics, videos = video_metrics(chosen.metrics), []
    for number in chosen.episodes:
        for label, frames, timeline in controls(story(number, chosen.frames), chosen.frames):
            found = figures(frames, timeline, metrics, _order(timeline, chosen.frames))
            shown = {name: {key: value for key, value in each.items() if key != "curves"}
                     for name, each in found.items()}  # fmt: skip
            asked = {"label": label, "story": f"episode {number}: {told(timeline)}", "seed": number}
            videos.append(json.dumps({**asked, "frames": len(frames), "figures": shown}))
            print(f"episode {number}: {label}", file=sys.stderr)
    head = {
        "command": "python -m lab score controls",
        "facts": facts({"worlds": "sprites, drawn", "frames": str(chosen.frames)}),
        "plan": [],
    }
    return json.dumps(head, indent=1)[:-2] + ',\n "videos": [\n' + ",\n".join(videos) + "\n]}"


def _order(timeline: Timeline, frames: int) -> Order:
    """Return what says where prompts change, and where the windows of `chunked` would meet: a real world has no seams
    there."""
    request = Request(prompts=prompts_of(timeline), frames=frames)
    return Order(model="sprites", request=request, sampler=sampler_class("chunked")())
