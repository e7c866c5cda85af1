"""`longtake evaluate`: scores of a delivered video."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from longtake.apps.arguments import Flag, parse_arguments
from longtake.apps.report import read_order, report_path
from longtake.data.sprite_captions import parse_caption
from longtake.data.sprite_names import Shot
from longtake.errors import InputError, OutputError
from longtake.prompts.parse import parse_prompts
from longtake.request import PromptTimeline

DEFAULT_FPS = 8.0
# The figures compare videos in tiles of this side.
SMALLEST = 16


def _from_report(metavar: str) -> object:
    return arg(metavar=metavar, help_behavior_hint="(default: what the report beside the video says)")


@dataclass(frozen=True, kw_only=True)
class PromptsSettings:
    """Score a video of the sprite worlds: the share of clips that a classifier reads as what the prompts ask for."""

    video: Annotated[Positional[Path], arg(metavar="VIDEO")]
    """A video file, or a folder of numbered PNG files."""
    prompts: Annotated[
        str | None, arg(metavar="FILE|TEXT", help_behavior_hint="(default: from the report beside it)")
    ] = None
    """What was asked for, as in 'longtake generate --prompts'."""
    scale: Annotated[
        int | None, arg(metavar="INT", help_behavior_hint="(default: from the report beside it, or 1)")
    ] = None
    """The enlargement to undo."""
    start: int = 0
    """First frame that counts."""
    stop: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: the end)")] = None
    """First frame that does not count any more."""
    json: Flag = False
    """Print one JSON object."""


@dataclass(frozen=True, kw_only=True)
class DriftSettings:
    """Score a video: does it change as it goes on, does it jump, freeze or repeat itself?"""

    video: Annotated[Positional[Path], arg(metavar="VIDEO")]
    """A video file, or a folder of numbered PNG files."""
    scale: Annotated[
        int | None, arg(metavar="INT", help_behavior_hint="(default: from the report beside it, or 1)")
    ] = None
    """The enlargement to undo."""
    block: int = 64
    """Frames at the start that are compared with as many at the end."""
    json: Flag = False
    """Print one JSON object."""


@dataclass(frozen=True, kw_only=True)
class StateSettings:
    """Score a video of the sprite worlds by drawing every frame again with the true sprites: are the shapes sharp and
    right, is it one object all along, does it move as real ones do? About 8 frames a second."""

    video: Annotated[Positional[Path], arg(metavar="VIDEO")]
    """A video file, or a folder of numbered PNG files."""
    prompts: Annotated[
        str | None, arg(metavar="FILE|TEXT", help_behavior_hint="(default: from the report beside it, if any)")
    ] = None
    """What was asked for, as in 'longtake generate --prompts'; without it, object, scene and steps stay open."""
    scale: Annotated[
        int | None, arg(metavar="INT", help_behavior_hint="(default: from the report beside it, or 1)")
    ] = None
    """The enlargement to undo."""
    stop: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: the end)")] = None
    """First frame that is not read any more."""
    track: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: none)")] = None
    """Write the state of every frame there, as JSON."""
    json: Flag = False
    """Print one JSON object."""


def prompts_command(arguments: Sequence[str]) -> int:
    """Score a video against its prompts."""
    settings = parse_arguments(PromptsSettings, "evaluate prompts", arguments)
    _check_video(settings.video)
    shots = _shots(_timeline(settings))
    scale = _scale(settings.video, settings.scale)
    from longtake.metrics.prompt_accuracy import prompt_accuracy

    _print(prompt_accuracy(settings.video, shots, start=settings.start, stop=settings.stop, scale=scale), settings.json)
    return 0


def drift_command(arguments: Sequence[str]) -> int:
    """Score how a video changes over its length."""
    settings = parse_arguments(DriftSettings, "evaluate drift", arguments)
    _check_video(settings.video)
    if settings.block < 8:
        raise InputError(f"a block of {settings.block} frames says nothing; use 8 or more")
    scale = _scale(settings.video, settings.scale)
    from longtake.metrics.consistency import consistency
    from longtake.video.read import read_frames

    frames = read_frames(settings.video, scale=scale)
    first = next(frames, None)
    if first is None or min(first.shape[1:3]) < SMALLEST:
        raise InputError(f"{settings.video} has no frames of {SMALLEST} pixels or more, so nothing can be measured")
    _print(asdict(consistency(chain([first], frames), block=settings.block)), settings.json)
    return 0


def state_command(arguments: Sequence[str]) -> int:
    """Score shapes, identity and steps of a video of the sprite worlds."""
    settings = parse_arguments(StateSettings, "evaluate state", arguments)
    _check_video(settings.video)
    told = settings.prompts is not None or report_path(settings.video).is_file()
    shots = _shots(_timeline(settings)) if told else None
    scale = _scale(settings.video, settings.scale)
    from longtake.metrics.sprite_state.figures import state_figures
    from longtake.metrics.sprite_state.reader import read_states
    from longtake.video.read import read_frames

    states = read_states(read_frames(settings.video, stop=settings.stop, scale=scale), shots)
    if settings.track is not None:
        _write(settings.track, json.dumps([asdict(state) for state in states], indent=1))
    figures = asdict(state_figures(states, shots))
    if settings.json:
        _print(figures, True)
        return 0
    identity, steps, flags = (figures.pop(name) for name in ("identity", "steps", "flags"))
    lines = {f"same object after {lag}": share for lag, share in identity.items()}
    lines |= {f"step {name}, real is 1": ratio for name, ratio in steps.items()}
    _print({**figures, **lines, "flags": ", ".join(flags) or "none"}, False)
    return 0


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; choose another --track") from None


def _check_video(video: Path) -> None:
    if not video.exists():
        raise InputError(f"there is no {video}; give a video file or a folder of numbered PNG files")


def _scale(video: Path, scale: int | None) -> int:
    if scale is None:
        return read_order(str(report_path(video))).scale if report_path(video).is_file() else 1
    if scale < 1:
        raise InputError(f"scale {scale} is below 1; give the enlargement of the video")
    return scale


def _timeline(settings: PromptsSettings | StateSettings) -> PromptTimeline:
    report = report_path(settings.video)
    if settings.prompts is None and not report.is_file():
        raise InputError(f"{report} is not there to say what was asked for; give --prompts")
    order = read_order(str(report)) if report.is_file() else None
    if settings.prompts is None:
        assert order
        return order.request.prompts
    fps = (order.fps if order else None) or DEFAULT_FPS
    return parse_prompts(settings.prompts, order.request.frames if order else None, fps)


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


def _print(figures: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    width = max(map(len, figures))
    for name, value in figures.items():
        shown = "-" if value is None else f"{value:.3f}" if isinstance(value, float) else value
        print(f"{name.replace('_', ' '):{width}}  {shown}")
