"""What the command line prints: lines, tables, and numbers as people say them."""

import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from longtake.words import plain

_GAP = 2
"""Columns of the terminal between those of a table."""


def say(line: str) -> None:
    """Print a line for people on standard error, where nothing reads it as a result."""
    print(plain(line), file=sys.stderr, flush=True)


def print_figures(figures: Mapping[str, Any], spoken: Mapping[str, str]) -> None:
    """Print the figures that are known by their names; of "labels", which say of some what they cannot be compared with
    and after a colon why, the first half stands beside them, and the whole below.

    `spoken` names the entries of figures that have several.
    """
    labels, lines = figures.get("labels", {}), dict[str, str]()
    for name, value in figures.items():
        if name in ("labels", "warnings", "curves") or value is None:
            continue
        if isinstance(value, Mapping):
            lines |= {spoken[name].format(key): _shown(entry) for key, entry in value.items()}
        else:
            note = f"  ({labels[name].partition(': ')[0]})" if name in labels else ""
            lines[name.replace("_", " ")] = _shown(value) + note
    width = max(map(len, lines))
    for name, shown in lines.items():
        print(f"{name:{width}}  {shown}")
    for label in dict.fromkeys(label for name, label in labels.items() if figures[name] is not None):
        if ": " in label:
            print(label)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, tuple | list):
        return ("  " if isinstance(next(iter(value), ""), float) else ", ").join(map(_shown, value)) or "none"
    return "-" if value is None else plain(str(value))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text under their titles, folded to the width of the terminal; where the longest words of the
    columns do not fit beside each other, every row as a paragraph instead."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    shown = [[plain(cell) for cell in row] for row in rows]
    widths = _widths([columns, *shown], console.width - _GAP * len(columns))
    if widths is None:
        for row in shown:
            _print_paragraph(columns, row)
        return
    table = Table(*columns, box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    # Left to itself, it cuts words.
    for column, width in zip(table.columns, widths, strict=True):
        column.width = width
    for row in shown:
        table.add_row(*map(Text, row))
    console.print(table)


def _widths(rows: Sequence[Sequence[str]], available: int) -> list[int] | None:
    """Return widths of the columns that together take no more than is available, and of which none cuts a word or a
    cell of the first column; None where there are none."""
    from rich.cells import cell_len

    cells = list(zip(*rows, strict=True))
    widths = [max(map(cell_len, column)) for column in cells]
    least = [max(map(cell_len, " ".join(column).split()), default=0) for column in cells]
    least[0] = widths[0]
    while sum(widths) > available:
        narrower = [number for number, width in enumerate(widths) if width > least[number]]
        if not narrower:
            return None
        widths[max(narrower, key=widths.__getitem__)] -= 1
    return widths


def _print_paragraph(columns: Sequence[str], row: Sequence[str]) -> None:
    """Print a row with its first cell on a line, and under it the others by their titles."""
    print(row[0])
    for title, cell in zip(columns[1:], row[1:], strict=True):
        print_folded(f"{title}: {cell}", indent=4)


def print_folded(line: str, indent: int = 0) -> None:
    """Print a line folded to the width of the terminal; `indent`: before its first row, and 4 more before others."""
    from rich.console import Console

    begin, width = " " * indent, Console().width
    # Names with a hyphen are one word, and a long word is rather too long than cut.
    print(
        textwrap.fill(
            line,
            width,
            initial_indent=begin,
            subsequent_indent=begin + "    ",
            break_on_hyphens=False,
            break_long_words=False,
        )
    )


def size(count: float) -> str:
    """Return bytes in words: 1.5 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "bytes" else f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def pace(rate: float) -> str:
    """Return frames per second in words: 10.7 frames/s, 0.043 frames/s."""
    return f"{rate:.1f} frames/s" if rate >= 1 else f"{rate:.2g} frames/s"


def duration(seconds: float) -> str:
    """Return seconds in words: 2 min 5 s."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
