"""The page: tables, curves, pictures and videos of what was compared, in one file that needs no other."""

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from longtake.apps.compare.figures import Cell, figure_rows
from longtake.apps.compare.finished import Finished, metric_name, numbers
from longtake.apps.shown import duration
from longtake.metrics import METRICS
from longtake.metrics.consistency import MOST_POINTS
from longtake.metrics.of_video import Drift, OfVideo
from longtake.report import order_content
from longtake.words import counted, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOWEST = 48
"""Pixels of a picture below which it is enlarged."""
COLOURS = 8
"""So many labels have a colour of their own; further ones begin again, with other dashes."""
_POINTS = 128
_INK, _GRID = "#0a0b0c", "#0d0e0f"
_DASHES = ("-", "--", "-.", ":")
_MOST_NAMED = 8
"""Files that a remark names; of more it says how many."""
_MOST_PLAYED = 40_000_000
"""Bytes of all copies that play in a page; browsers open no page of any size."""
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
    summary: str
    """What was compared, in a line."""
    command: str
    videos: Sequence[Finished]
    metrics: Mapping[str, OfVideo]
    """The metrics that were asked for."""
    facts: Mapping[str, str]
    """Versions, machine, model: what the videos share."""
    plan: Table | None = None
    """What the runs took by their plans."""


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Figures that belong together."""

    name: str
    about: str
    rows: Sequence[tuple[str, Sequence[Cell | None]]]


@dataclass(frozen=True, kw_only=True)
class _Story:
    """Videos that are shown side by side."""

    seed: int | None
    """None where it does not tell it from others."""
    videos: Sequence[Finished]
    played: Sequence[Finished]
    """Those that play in the page."""

    @property
    def unplayed(self) -> list[Finished]:
        """Return those that are there as pictures alone."""
        return [video for video in self.videos if video.looks and video not in self.played]

    @property
    def places(self) -> list[int]:
        """Return the numbers of the frames that are shown, where they are the same of all; otherwise none."""
        found = {tuple(video.looks.places) for video in self.videos if video.looks}
        return list(found.pop()) if len(found) == 1 else []


def rendered(page: Page) -> str:
    """Return the page as HTML. Whatever comes from outside is escaped."""
    from jinja2 import Environment
    from markupsafe import Markup, escape

    def broken(label: str) -> Markup:
        """Return a label that may go on in the next line between its settings, and before a suffix."""
        return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[:=_/])|(?=\.\w+$)", plain(label)))

    labels = list(dict.fromkeys(video.label for video in page.videos))
    source = files("longtake.apps.compare").joinpath("assets/page.html").read_text(encoding="utf-8")
    tables = _tables(page, labels)
    cells = [cell for table in tables for _, row in table.rows for cell in row if cell]
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source).render(
        page=page,
        labels=[(label, number % COLOURS, _dashes(number)) for number, label in enumerate(labels)],
        plan=_plan(page.plan, labels) if page.plan else [],
        tables=tables,
        has_spread=any(cell.spread is not None for cell in cells),
        bounds=_bounds(tables),
        curves=[Markup(svg) for svg in _charts(page, labels)],
        stories=_stories(page),
        sheet=_sheet,
        played=lambda video: _uri("video/mp4", video.looks.copy),
        about=about,
        broken=broken,
        remarks=_remarks(page, labels),
        notes=_notes(page),
        settings=_settings(page, labels),
        points=MOST_POINTS,
        block=" or ".join(str(one.block) for one in page.metrics.values() if isinstance(one, Drift)),
        plain=plain,
    )  # fmt: skip


def _plan(plan: Table, labels: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return the plan with a row for each of its columns, and a cell for every label."""
    rows = {row[0]: row for row in plan.rows}
    return [(name, [rows[label][number] for label in labels]) for number, name in enumerate(plan.columns) if number]


def _tables(page: Page, labels: Sequence[str]) -> list[_Rows]:
    """Return the figures of every metric that has some."""
    tables = []
    for name, metric in page.metrics.items():
        found = [
            (video.label, video.seed, numbers(video.figures[name], metric.spoken))
            for video in page.videos
            if name in video.figures
        ]
        if rows := figure_rows(metric, labels, found):
            tables.append(_Rows(name=name, about=METRICS[metric_name(name)].summary.partition(": ")[2], rows=rows))
    return tables


def _bounds(tables: Sequence[_Rows]) -> list[str]:
    """Return within what the figures would be in order that are not, by where the bounds come from."""
    found: dict[str, dict[str, None]] = {}
    for table in tables:
        for figure, cells in table.rows:
            for bound in (cell.bound for cell in cells if cell and cell.bound):
                found.setdefault(bound.source, {})[f"{table.name}: {figure} {bound}"] = None
    return [f"{', '.join(figures)} ({source})" for source, figures in found.items()]


def _stories(page: Page) -> list[tuple[str, list[_Story]]]:
    """Return what is shown side by side: of every story, a group for each seed."""
    found: dict[str, dict[int | None, list[Finished]]] = {}
    for video in page.videos:
        # Videos of any origin are one group, whatever their seeds.
        seed = video.seed if video.story else None
        found.setdefault(video.story, {}).setdefault(seed, []).append(video)
    played = _played(page.videos)
    return [
        (
            story,
            [
                _Story(seed=seed, videos=videos, played=[video for video in videos if video in played])
                for seed, videos in by_seed.items()
            ],
        )
        for story, by_seed in found.items()
    ]


def _played(videos: Sequence[Finished]) -> list[Finished]:
    """Return which videos play, so many as fit into a page: those of one story and seed together or not at all, first
    seeds first."""
    sets: dict[object, list[Finished]] = {}
    for video in videos:
        if video.looks and video.looks.copy:
            sets.setdefault((video.seed, video.story) if video.story else video.path, []).append(video)
    played, left = [], _MOST_PLAYED
    seeds = list(dict.fromkeys(video.seed for video in videos))
    for each in sorted(sets.values(), key=lambda each: seeds.index(each[0].seed) if each[0].story else 0):
        size = sum(len(video.looks.copy) for video in each if video.looks and video.looks.copy)
        if size <= left:
            played += each
            left -= size
    return played


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


def about(video: Finished) -> str:
    """Return size and length in words."""
    looks = video.looks
    if looks is None:
        return "nothing of it can be read"
    length = "" if looks.seconds is None else f", {duration(looks.seconds)}"
    return f"{counted(looks.num_frames, 'frame')}, {looks.width}x{looks.height}{length}"


def _remarks(page: Page, labels: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return what is to be known of videos, and of which: those of all, then those of single ones."""
    by_text: dict[str, list[Finished]] = {}
    for video in page.videos:
        for text in dict.fromkeys(_said(video)):
            by_text.setdefault(text, []).append(video)
    by_whom: dict[str, list[str]] = {}
    for text, videos in sorted(by_text.items(), key=lambda item: -len(item[1])):
        by_whom.setdefault(_who(videos, page, labels), []).append(text)
    return list(by_whom.items())


def _who(videos: Sequence[Finished], page: Page, labels: Sequence[str]) -> str:
    """Return which of the videos these are, in words: by columns where they are all of these."""
    if len(videos) == len(page.videos) > 1:
        return "all"
    names = []
    for label in labels:
        own = [video for video in videos if video.label == label]
        are_all = len(own) == sum(video.label == label for video in page.videos)
        names += [label] if own and are_all else [video.path.name for video in own]
    return ", ".join(names) if len(names) <= _MOST_NAMED else f"{len(videos)} of {counted(len(page.videos), 'video')}"


def _said(video: Finished) -> list[str]:
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
            spoken = page.metrics[name].spoken if name in page.metrics else {}
            for figure, label in figures.get("labels", {}).items():
                # As the rows of the table call it, where there is one for each entry of a figure.
                figure = spoken.get(figure, figure).format("").strip().replace("_", " ")
                said.setdefault(label, {}).setdefault(metric_name(name), {})[figure] = None
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
    colour, dashes, mean = _placeholder(number), _DASHES[_dashes(number)], _mean(rows)
    # A single point is no line.
    marker = "o" if np.isfinite(mean).sum() == 1 else None
    axes.plot(frames, mean, color=colour, linestyle=dashes, linewidth=1.4, marker=marker)
    if len(rows) > 1:
        least, most = (pick(np.where(np.isfinite(rows), rows, mean), axis=0) for pick in (np.min, np.max))
        axes.fill_between(frames, least, most, color=colour, alpha=0.12, linewidth=0)


def _dashes(number: int) -> int:
    """Return which dashes a label has: others than the one of the same colour."""
    return (number + number // COLOURS) % len(_DASHES)


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
