"""The leaderboard: tables of comparisons, and which controls rank last."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.score.ranking import MATRIX, Verdict, verdicts
from longtake.apps.compare.figures import Cell, figure_rows
from longtake.apps.compare.finished import numbers, video_metrics
from longtake.metrics import METRICS

RESULTS = Path(__file__).parents[2] / "docs" / "benchmarks" / "results"
_CONTROLS = "-controls"
HEAD = """# Leaderboard

Made by `python -m lab score leaderboard` of the files in [results](results), which `longtake compare` wrote
([how](../compare.md)); another file there is another table. Means over the videos of a column, with the standard
deviation of the means of single seeds where there are several; **!** is out of order by the
[bounds](../metrics.md#over-long-time), and **bold** what is best [beyond the spread](../compare.md#what-is-measured).
The worlds of the embedded model are toys, and few videos are an indication: nothing here ranks methods on film."""
_SAID = """Real sprite worlds of the same stories, and what was made of them so that an honest figure ranks it last.
By which figure each has to, and below what, is a matrix that was frozen before any of these scores were taken
([ranking.py](../../lab/score/ranking.py)): below real worlds, or below every sampler of the table above as well. What
is not caught is said here and not tuned away. The spread is one of stories: each has a seed of its own. Where only
real worlds count the nearest sampler is "-", and "none yet" where no sampler has been measured by a figure."""
FILM = """## What this toy world can and cannot say about film

It can say, because the truth of every frame is known, whether a method holds the object, the scene and the motion
that it was asked for; whether it changes them when it is told to; whether shapes stay sharp, colours stay, the motion
keeps its clock, and what no prompt speaks of is kept; and where its windows meet. A method that loses these here has
lost them where nothing but the method was hard. That its rank is the same on film is not known: nobody has measured
it.

It cannot say anything of people, faces, hands, cloth or water; of several things that touch, hide or follow each
other; of a camera that cuts, turns or comes closer; of depth, of text, of sound; of a prompt that means more than
three names. A sprite is one of 16 drawings, and an inverse renderer knows all of them: a method that is honest about
shapes here may still melt a hand. The videos have 64 x 64 pixels and 8 frames a second. The network is small and has
seen nothing else, so that what is hard for it need not be what is hard for a model of film. `similarity` and
`switches` look through the judge of these worlds, which was trained on them. 256 frames are half a minute, 4,096
eight and a half: what happens at minute ten they do not show. Three stories with three seeds are few, and every
sampler has settings that were not searched."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is shown."""

    results: Path = RESULTS  # a folder of results.json by other names; a-controls.json has the controls of a.json


def page(chosen: Settings) -> str:
    """Return the page: a table of each file, and of those of controls who ranks last."""
    parts = [HEAD]
    for file in sorted(chosen.results.glob("*.json"), key=_place):
        results, name = _read(file), file.stem.removesuffix(_CONTROLS)
        told = "\n".join(table(results))
        if name == file.stem:
            parts.append(f"## {name}\n\n{told}")
        else:
            made = file.with_stem(name)
            found = list(verdicts(results["videos"], _read(made)["videos"] if made.exists() else []))
            parts += [f"## Controls of {name}\n\n{_SAID}\n\n{told}", "\n".join(ranks(found))]
    return "\n\n".join([*parts, FILM])


def _place(file: Path) -> tuple[str, int, str]:
    """Return where a table stands: comparisons of one kind by their frames, controls below theirs."""
    name = file.stem.removesuffix(_CONTROLS)
    kind, _, frames = name.rpartition("-")
    return (kind, int(frames), file.stem) if frames.isdecimal() else (name, 0, file.stem)


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def ranks(found: Sequence[Verdict]) -> Iterator[str]:
    """Yield the lines of the matrix and of what it found."""
    entries, held = sum(map(len, MATRIX.values())), sum(one.holds for one in found)
    waiting = sum(one.worst is None and _counts(one) for one in found)
    alone = f", {waiting} of them against real worlds alone so far" if waiting else ""
    yield f"Of {entries} entries of the matrix {len(found)} are measured, and of these {held} hold{alone}:"
    yield ""
    yield "| control | by | control has | real | nearest sampler, where they count | ranks last |"
    yield "|" + " --- |" * 6
    for one in found:
        nobody = "none yet" if _counts(one) else "-"
        worst = nobody if one.worst is None else f"{one.worst[1]:.3g}, `{one.worst[0]}`"
        last = "yes" if one.holds else "**no**"
        yield f"| {one.control} | {one.figure} | {one.value:.3g} | {one.real:.3g} | {worst} | {last} |"


def _counts(one: Verdict) -> bool:
    """Return whether samplers count in an entry."""
    return MATRIX[one.control][one.figure][1] == "samplers"


def table(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the table of a comparison."""
    videos = results["videos"]
    labels = list(dict.fromkeys(video["label"] for video in videos))
    # Given without a model it meant the default of its day.
    command, model = results["command"], results["facts"].get("model", "")
    named = (
        command.replace("compare ", f"compare --model {model} ", 1) if model and "--model" not in command else command
    )
    yield f"    {named}"
    yield ""
    planned = sum(int(row["videos"]) for row in results["plan"])
    many = f"{len(videos)} videos" + (f" of {planned}" if planned > len(videos) else "")
    yield ", ".join([*(f"{name} {value}" for name, value in results["facts"].items()), many])
    yield ""
    yield f"| | {' | '.join(f'`{label}`' for label in labels)} |"
    yield "|" + " --- |" * (len(labels) + 1)
    # Real worlds and controls are drawn, not planned. What was compared first stands first among the videos.
    plan = {row["sampler"]: row for row in results["plan"]}
    for name in list(results["plan"][0])[1:] if plan else ():
        yield f"| {name} | {' | '.join(plan[label][name] for label in labels)} |"
    measured = [name for name in METRICS if any(name in video["figures"] for video in videos)]
    for metric, kind in video_metrics(",".join(measured)).items():
        found = [(one["label"], one["seed"], numbers(one["figures"].get(metric, {}), kind.spoken)) for one in videos]
        for figure, cells in figure_rows(kind, labels, found):
            yield f"| {metric}: {figure} | {' | '.join(_told(cell, is_best=bool(plan)) for cell in cells)} |"


def _told(cell: Cell | None, *, is_best: bool) -> str:
    """Return a cell as text; of controls, which are spoilt each in its way, none is the best."""
    if cell is None:
        return "-"
    text = cell.text("+-")
    return f"{text} **!**" if cell.bound else f"**{text}**" if cell.best and is_best else text
