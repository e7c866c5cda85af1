"""Metrics of one delivered video, of which the report beside it says what was asked for."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, ClassVar

from longtake.data.sprite_captions import Shot, parse_caption
from longtake.errors import InputError, LongtakeError, OutputError
from longtake.metrics.metric import Metric
from longtake.models import model_spec
from longtake.prompts import parse_prompts
from longtake.report import Order, read_order, report_path
from longtake.request import PromptTimeline
from longtake.samplers.planning import checked_plan
from longtake.typed import Setting

DEFAULT_FPS = 8.0
SMALLEST = 16
"""Side in pixels of the tiles in which videos are compared."""


@dataclass(frozen=True, kw_only=True)
class OfVideo(Metric):
    """A metric of a video that was made."""

    path: Annotated[Path, Setting(positional=True, metavar="VIDEO")]
    """A video file, or a folder of numbered PNG files."""
    scale: Annotated[int | None, Setting(metavar="INT", unset="from the report beside it, or 1")] = None
    """The enlargement to undo."""

    def order(self) -> Order | None:
        """Return what the report beside it says was asked for. Raises InputError for a video that is not there."""
        if not self.path.exists():
            raise InputError(f"there is no {self.path}; give a video file or a folder of numbered PNG files")
        if self.scale is not None and self.scale < 1:
            raise InputError(f"scale {self.scale} is below 1; give the enlargement of the video")
        report = report_path(self.path)
        return read_order(str(report)) if report.is_file() else None

    def timeline(self, order: Order | None, prompts: str | None) -> PromptTimeline:
        """Return what was asked for: these prompts, else those of the report. Raises InputError for neither."""
        if prompts is not None:
            fps = (order.output.fps if order else None) or DEFAULT_FPS
            return parse_prompts(prompts, order.request.frames if order else None, fps)
        if order is None:
            raise InputError(f"{report_path(self.path)} is not there to say what was asked for; give --prompts")
        return order.request.prompts

    def enlargement(self, order: Order | None) -> int:
        """Return by how much its pixels are enlarged."""
        return self.scale or (order.output.scale if order else 1)


@dataclass(frozen=True, kw_only=True)
class State(OfVideo):
    """Score a video of the sprite worlds by drawing every frame again with the true sprites: are the shapes sharp and
    right, is it one object all along, does it move as real ones do? About 8 frames a second."""

    spoken: ClassVar[Mapping[str, str]] = {"identity": "same object after {}", "steps": "step {}, real is 1"}

    prompts: Annotated[str | None, Setting(metavar="FILE|TEXT", unset="from the report beside it, if any")] = None
    """What was asked for, as in 'longtake generate --prompts'; without it, object, scene and steps stay open."""
    stop: Annotated[int | None, Setting(metavar="INT", unset="the end")] = None
    """First frame that is not read any more."""
    track: Annotated[Path | None, Setting(metavar="FILE", unset="none")] = None
    """Write the state of every frame there, as JSON."""

    def measure(self) -> dict[str, Any]:
        """Return the figures over all frames."""
        order = self.order()
        told = self.prompts is not None or order is not None
        shots, scale = _shots(self.timeline(order, self.prompts)) if told else None, self.enlargement(order)
        from longtake.metrics.sprite_state.figures import state_figures
        from longtake.metrics.sprite_state.reader import read_states
        from longtake.video.read import read_frames

        states = read_states(read_frames(self.path, stop=self.stop, scale=scale), shots)
        if self.track is not None:
            _write(self.track, json.dumps([asdict(state) for state in states], indent=1))
        return asdict(state_figures(states, shots))


@dataclass(frozen=True, kw_only=True)
class Prompts(OfVideo):
    """Score a video of the sprite worlds: the share of clips that a classifier reads as what the prompts ask for."""

    prompts: Annotated[str | None, Setting(metavar="FILE|TEXT", unset="from the report beside it")] = None
    """What was asked for, as in 'longtake generate --prompts'."""
    start: int = 0
    """First frame that counts."""
    stop: Annotated[int | None, Setting(metavar="INT", unset="the end")] = None
    """First frame that does not count any more."""

    def measure(self) -> dict[str, Any]:
        """Return the shares of clips."""
        order = self.order()
        shots, scale = _shots(self.timeline(order, self.prompts)), self.enlargement(order)
        from longtake.metrics.prompt_accuracy import prompt_accuracy

        return dict(prompt_accuracy(self.path, shots, start=self.start, stop=self.stop, scale=scale))


@dataclass(frozen=True, kw_only=True)
class Drift(OfVideo):
    """Score a video: does it change as it goes on, does it jump, freeze or repeat itself?"""

    block: int = 64
    """Frames at the start that are compared with as many at the end."""

    def measure(self) -> dict[str, Any]:
        """Return the figures of one pass over the video."""
        order, path = self.order(), self.path
        scale = self.enlargement(order)
        seams, unknown = _seams(order)
        cuts = order.prompts.starts[1:] if order else ()
        if self.block < 8:
            raise InputError(f"a block of {self.block} frames says nothing; use 8 or more")
        from longtake.metrics.consistency import consistency
        from longtake.video.read import read_frames

        frames = read_frames(path, scale=scale)
        first = next(frames, None)
        if first is None or min(first.shape[1:3]) < SMALLEST:
            raise InputError(f"{path} has no frames of {SMALLEST} pixels or more, so nothing can be measured")
        figures = consistency(chain([first], frames), seams=seams, cuts=cuts, block=self.block)
        return {**asdict(figures), "warnings": unknown}


def _seams(order: Order | None) -> tuple[Sequence[int], list[str]]:
    """Return the frames at which a run's pieces of work meet, and why that is not known of one that has a report."""
    if order is None:
        return (), []
    try:
        # LoRAs, which may be gone by now, change no spec.
        spec = model_spec(order.model, **replace(order.loading, lora=()).told)
        plan = checked_plan(spec, order.request, order.sampler, order.output.part)
    except LongtakeError as error:
        return (), [f"where its windows meet is not known, so that there is no seam ratio: {error}"]
    return plan.seams(order.frames or 0), []


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; choose another --track") from None


def _shots(timeline: PromptTimeline) -> dict[int, Shot]:
    shots = {}
    for start, text in zip(timeline.starts, timeline.texts, strict=True):
        shot = parse_caption(text)
        if shot is None:
            raise InputError(
                f"the prompt {text!r} names no object, scene and motion of the sprite worlds, so it cannot be judged; "
                "'longtake data sprites --preview' shows them"
            )
        shots[start] = shot
    return shots
