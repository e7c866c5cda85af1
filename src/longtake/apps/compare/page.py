"""The page: tables, curves, pictures and videos of what was compared, in one file that needs no other."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from longtake.apps.compare.finished import Finished, metric_name, numbers
from longtake.apps.shown import counted, duration
from longtake.errors import plain
from longtake.metrics import METRICS
from longtake.metrics.consistency import MOST_POINTS
from longtake.metrics.of_video import Drift, OfVideo
from longtake.report import order_content

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOWEST = 48
"""Pixels of a picture below which it is enlarged."""
COLOURS = 8
"""So many labels have a colour of their own; further ones begin again, with other dashes."""
_POINTS = 128
_INK, _GRID = "#0a0b0c", "#0d0e0f"
_DASHES = ("-", "--", "-.", ":")
Curves = Sequence[tuple[int, Sequence[float]]]
"""Of some videos: how many frames they have, and values that are evenly spaced over these."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text under their titles."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a page says."""

    title: str
    command: str
    videos: Sequence[Finished]
    metrics: Mapping[str, OfVideo]
    """The metrics that were asked for."""
    facts: Mapping[str, str]
    """Versions, machine, model: what the videos share."""
    plan: Table | None = None
    """What the runs took by their plans."""


@dataclass(frozen=True, kw_only=True)
class _Cell:
    text: str
    flag: str = ""
    """What is in order, where this is not."""


def rendered(page: Page) -> str:
    """Return the page as HTML. Whatever comes from outside is escaped."""
    from jinja2 import Environment
    from markupsafe import Markup

    labels = list(dict.fromkeys(video.label for video in page.videos))
    source = files("longtake.apps.compare").joinpath("assets/page.html").read_text(encoding="utf-8")
    stories = dict.fromkeys(video.story for video in page.videos)
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source).render(
        page=page,
        labels=[(label, number % COLOURS) for number, label in enumerate(labels)],
        tables=_tables(page, labels),
        curves=[Markup(svg) for svg in _charts(page, labels)],
        stories=[(story, [video for video in page.videos if video.story == story]) for story in stories],
        sheet=_sheet,
        played=lambda video: _uri("video/mp4", video.looks.copy),
        about=_about,
        remarks=[(video, _remarks(video)) for video in page.videos if _remarks(video)],
        notes=_notes(page),
        settings=_settings(page, labels),
        points=MOST_POINTS,
        block=" or ".join(str(one.block) for one in page.metrics.values() if isinstance(one, Drift)),
        several_seeds=len({video.seed for video in page.videos}) > 1,
        plain=plain,
    )  # fmt: skip


def _tables(page: Page, labels: Sequence[str]) -> list[tuple[str, str, list[tuple[str, list[_Cell]]]]]:
    """Return name, summary and rows of every metric; a row is the name of a figure, and a cell for every label."""
    tables = []
    for name, metric in page.metrics.items():
        found = [(video, numbers(video.figures[name], metric.spoken)) for video in page.videos if name in video.figures]
        rows = dict.fromkeys(figure for _, each in found for figure in each)
        cells = [(figure, [_cell(metric, figure, label, found) for label in labels]) for figure in rows]
        if cells:
            tables.append((name, METRICS[metric_name(name)].summary.partition(": ")[2], cells))
    return tables


def _cell(metric: OfVideo, figure: str, label: str, found: Sequence[tuple[Finished, Mapping[str, float]]]) -> _Cell:
    """Return the mean of a figure over the videos of a label, with its spread over seeds."""
    by_seed: dict[int | None, list[float]] = {}
    for video, each in found:
        if video.label == label and figure in each:
            by_seed.setdefault(video.seed, []).append(each[figure])
    if not by_seed:
        return _Cell(text="-")
    mean = fmean(value for values in by_seed.values() for value in values)
    bound = metric.bounds.get(figure.replace(" ", "_"))
    spread = stdev(map(fmean, by_seed.values())) if len(by_seed) > 1 else 0.0
    flag = "" if bound is None or bound.holds(mean) else f"in order: {bound} ({bound.source})"
    return _Cell(text=_shown(mean) + (f" \u00b1 {spread:.2g}" if spread else ""), flag=flag)


def _shown(value: float) -> str:
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e6 else f"{value:.3g}"


def _charts(page: Page, labels: Sequence[str]) -> list[str]:
    """Return the curves of all metrics, a chart for each, with a line for every label."""
    charts: dict[str, dict[str, dict[int | None, list[tuple[int, Sequence[float]]]]]] = {}
    for video in page.videos:
        for name in page.metrics:
            for title, values in video.figures.get(name, {}).get("curves", {}).items():
                if values and video.looks and video.looks.num_frames > 1:
                    by_seed = charts.setdefault(title, {label: {} for label in labels})[video.label]
                    by_seed.setdefault(video.seed, []).append((video.looks.num_frames, values))
    return [
        drawn(title, {label: list(by_seed.values()) for label, by_seed in lines.items()})
        for title, lines in charts.items()
    ]


def _sheet(video: Finished) -> str:
    """Return some frames of a video in a row."""
    assert video.looks is not None
    pictures, gap = video.looks.pictures, 2
    height, width = pictures[0].shape[:2]
    times = -(-_LOWEST // height)
    height, width = height * times, width * times
    sheet = Image.new("RGBA", (len(pictures) * (width + gap) - gap, height))
    for number, picture in enumerate(pictures):
        sheet.paste(Image.fromarray(picture.repeat(times, 0).repeat(times, 1)), (number * (width + gap), 0))
    # Pictures of a film are many times smaller as WebP, and what is small looks the same.
    data = io.BytesIO()
    sheet.save(data, "WEBP", quality=88, method=4)
    return _uri("image/webp", data.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _about(video: Finished) -> str:
    """Return size and length in words."""
    looks = video.looks
    if looks is None:
        return "nothing of it can be read"
    length = "" if looks.seconds is None else f", {duration(looks.seconds)}"
    return f"{counted(looks.num_frames, 'frame')}, {looks.width}x{looks.height}{length}"


def _remarks(video: Finished) -> list[str]:
    """Return what is to be known of a video: what was not measured and why, flags, warnings, labels."""
    reasons: dict[str, list[str]] = {}
    for name, reason in video.reasons.items():
        reasons.setdefault(reason, []).append(name)
    said = [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]
    for name, figures in video.figures.items():
        flags = ", ".join(flag.replace("_", " ") for flag in figures.get("flags", ()))
        said += [f"{name}: out of order: {flags}"] if flags else []
        said += [f"{name}: {warning}" for warning in figures.get("warnings", ())]
    return said


def _notes(page: Page) -> list[str]:
    """Return what figures cannot be compared with, and by which features they are."""
    said: dict[str, dict[str, dict[str, None]]] = {}
    for video in page.videos:
        for name, figures in video.figures.items():
            for figure, label in figures.get("labels", {}).items():
                said.setdefault(label, {}).setdefault(metric_name(name), {})[figure.replace("_", " ")] = None
    notes = []
    for label, names in said.items():
        notes.append("; ".join(f"{name} ({', '.join(figures)})" for name, figures in names.items()) + f": {label}")
    return notes


def _settings(page: Page, labels: Sequence[str]) -> list[tuple[str, str]]:
    """Return of every label how its first video was made, as its report says it."""
    found = []
    for label in labels:
        order = next((video.order for video in page.videos if video.label == label and video.order), None)
        if order is not None:
            found.append((label, json.dumps(order_content(order), indent=1, ensure_ascii=False)))
    return found


def drawn(title: str, curves: Mapping[str, Sequence[Curves]]) -> str:
    """Return a chart as SVG: for every label the mean of its groups of curves, and a band from the least to the most of
    the means of single groups.

    Lines have the colours --c0, --c1 ... of the page, in the order of the labels; text and axes have that of its text.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": title,
        "font.size": 9,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": _GRID,
        "grid.linewidth": 0.5,
    }
    with rc_context(style):
        figure = Figure(figsize=(5.2, 2.6), layout="constrained")
        lengths = {length for groups in curves.values() for group in groups for length, _ in group}
        # Beside an hour a minute could not be seen.
        is_share = min(lengths) < max(lengths) / 2
        axes = figure.add_subplot(title=title, xlabel="part of the video" if is_share else "frame")
        longest = 1 if is_share else max(lengths)
        frames = np.linspace(0, longest, _POINTS)
        for number, groups in enumerate(curves.values()):
            if groups:
                _draw(
                    axes,
                    number,
                    frames,
                    np.stack(
                        [
                            _mean([_at(frames, 1 if is_share else length, values) for length, values in group])
                            for group in groups
                        ]
                    ),
                )
        axes.set_xlim(0, longest)
        text = io.StringIO()
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None})
    return _of_the_page(text.getvalue())


def _draw(axes: "Axes", number: int, frames: np.ndarray, rows: np.ndarray) -> None:
    colour, dashes, mean = _placeholder(number), _DASHES[number % len(_DASHES)], _mean(rows)
    # A single point is no line.
    marker = "o" if np.isfinite(mean).sum() == 1 else None
    axes.plot(frames, mean, color=colour, linestyle=dashes, linewidth=1.4, marker=marker)
    if len(rows) > 1:
        least, most = (pick(np.where(np.isfinite(rows), rows, mean), axis=0) for pick in (np.min, np.max))
        axes.fill_between(frames, least, most, color=colour, alpha=0.12, linewidth=0)


def _mean(rows: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Return the mean of those that are there; nothing where none is."""
    counts = np.isfinite(rows).sum(0)
    return np.where(counts > 0, np.nansum(rows, 0) / np.maximum(counts, 1), np.nan)


def _at(frames: np.ndarray, length: int, values: Sequence[float]) -> np.ndarray:
    """Return a curve at these frames; nothing beyond the end of its video."""
    centres = (np.arange(len(values)) + 0.5) * length / len(values)
    return np.where(frames <= length, np.interp(frames, centres, values), np.nan)


def _placeholder(number: int) -> str:
    return f"#fe{number % COLOURS:02x}dc"


def _of_the_page(svg: str) -> str:
    """Return an SVG for the middle of a page: without its head, and with the colours of the page."""
    svg = svg[svg.index("<svg") :]
    for number in range(COLOURS):
        svg = svg.replace(_placeholder(number), f"var(--c{number})")
    return svg.replace(_INK, "currentColor").replace(_GRID, "var(--line)")
