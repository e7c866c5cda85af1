"""Curves over the length of videos as vector graphics, whose colours the page around them decides."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from longtake.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = 8
"""So many labels have a colour of their own; further ones begin again, with other dashes."""
_POINTS = 128
_INK, _GRID = "#0a0b0c", "#0d0e0f"
_DASHES = ("-", "--", "-.", ":")


def check_library() -> None:
    """Raise MissingExtraError where what draws curves and fills pages is not installed."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as missing:
        raise MissingExtraError(missing.name or "matplotlib", "report") from None


Curves = Sequence[tuple[int, Sequence[float]]]
"""Of some videos: how many frames they have, and values that are evenly spaced over these."""


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
