"""The command `longtake report`: finished videos of any origin on one page."""

import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from longtake import __version__
from longtake.apps.arguments import Answer, OneFile, parse_arguments
from longtake.apps.shown import say, size
from longtake.errors import CheckpointError, InputError, MissingExtraError
from longtake.machine import processor
from longtake.typed import Setting
from longtake.words import counted

if TYPE_CHECKING:
    from longtake.metrics.of_video import OfVideo


@dataclass(frozen=True, kw_only=True)
class Measuring(Answer):
    """What a page measures; settings of what makes one extend this."""

    metrics: Annotated[str | None, Setting(metavar="NAME,NAME", unset="all that are no slower than the video")] = None
    """What to measure, of 'longtake evaluate'; settings follow a name with colons: similarity:network=dino.pt."""


@dataclass(frozen=True, kw_only=True)
class ReportSettings(Measuring, OneFile):
    """Put finished videos on one page, whatever made them: figures, curves over their length, pictures, and the videos
    in step. What is damaged is read as far as it goes, and the page says so."""

    files: Annotated[tuple[Path, ...], Setting(positional=True, metavar="FILE")] = ()
    """Video files, or folders of numbered PNG files; a report beside one says what was asked for."""
    output: Annotated[Path, Setting(short="-o", metavar="PATH")] = Path("report.html")
    """The page."""


def report_command(arguments: Sequence[str]) -> int:
    """Write the page; return the exit status."""
    settings = parse_arguments(ReportSettings, "report", arguments)
    if not settings.files:
        raise InputError("which videos is missing; give files, or folders of numbered PNG files")
    check_library()
    settings.check_output(*settings.files)
    # These import av and the metrics.
    from longtake.apps.compare.finished import as_json, look_into
    from longtake.apps.compare.page import Page, about, rendered

    metrics, videos = asked_metrics(settings.metrics), []
    for path, label in zip(settings.files, _labels(settings.files), strict=True):
        say(f"reading  {path}")
        videos.append(look_into(path, metrics, label=label, story=""))
    if not any(video.looks for video in videos):
        others = ", nor any other" if len(videos) > 1 else ""
        raise InputError(
            f"{videos[0].path} cannot be shown{others}: {videos[0].reasons['video']}; give files that play, or folders "
            "of numbered PNG files"
        )
    title, summary = counted(len(videos), "video"), ", ".join(video.label for video in videos)
    if len(videos) == 1:
        title, summary = videos[0].path.name, about(videos[0])
    page = Page(
        title=title,
        summary=summary,
        command=command_line("report", arguments),
        videos=videos,
        metrics=metrics,
        facts=facts({}),
    )
    write_page(settings.output, rendered(page))
    if settings.json:
        print(json.dumps([as_json(video, None) for video in videos], indent=2))
    return 0


def _labels(paths: Sequence[Path]) -> list[str]:
    """Return a name for each, which tells it from the others. Raises InputError for a file that is not there, and for
    one that is there twice, under whatever path."""
    # Imports av.
    from longtake.apps.compare.finished import check_there

    for path in paths:
        check_there(path)
    seen: dict[Path, Path] = {}
    for path in paths:
        if (first := seen.setdefault(path.resolve(), path)) is not path:
            same = "" if str(first) == str(path) else f", as {first}"
            raise InputError(f"{path} is there twice{same}; name every video once")
    counts = Counter(path.name for path in paths)
    return [path.name if counts[path.name] == 1 else str(path) for path in paths]


def asked_metrics(names: str | None) -> "dict[str, OfVideo]":
    """Return the metrics of a page. Raises as their `check` does, before a video is read or made."""
    # Imports av.
    from longtake.apps.compare.finished import video_metrics

    found = video_metrics(names)
    for text, metric in found.items():
        try:
            metric.check()
        except (InputError, CheckpointError) as error:
            raise type(error)(_on_a_page(str(error), text)) from None
    return found


def _on_a_page(refusal: str, text: str) -> str:
    """Return what a metric refuses by the names that its options have behind its own."""
    from longtake.apps.compare.finished import metric_name

    options = r"(?<![\w-])--([a-z][a-z-]*)"
    return re.sub(options, lambda found: f"{metric_name(text)}:{found[1].replace('-', '_')}", refusal)


def check_library() -> None:
    """Raise MissingExtraError where what draws curves and fills pages is not installed."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as missing:
        raise MissingExtraError(missing.name or "matplotlib", "report") from None


def write_page(path: Path, html: str) -> None:
    """Write a page in one step, and say so."""
    from longtake.video.durable import replace_durable

    data = html.encode("utf-8", "replace")
    replace_durable(path, data)
    say(f"done     {path}: {size(len(data))}, one file that needs no other")


def command_line(name: str, arguments: Sequence[str]) -> str:
    """Return a command as it was given."""
    return shlex.join(["longtake", name, *arguments])


def facts(more: Mapping[str, str]) -> dict[str, str]:
    """Return what a page says of the program and the machine."""
    import torch

    return {
        **more,
        "longtake": __version__,
        "python, torch": f"{sys.version.split()[0]}, {torch.__version__}",
        "machine": processor(),
    }
