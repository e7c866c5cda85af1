"""Print the tables of comparisons: python scripts/leaderboard.py [RESULTS.json ...] > docs/benchmarks/leaderboard.md

RESULTS.json is what `longtake compare` writes; without any, all in docs/benchmarks/results are taken.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from longtake.apps.compare.finished import numbers, video_metrics
from longtake.metrics import METRICS

RESULTS = Path(__file__).parents[1] / "docs" / "benchmarks" / "results"
HEAD = """# Leaderboard

Made by `python scripts/leaderboard.py` of the files in [results](results), which `longtake compare` wrote
([how](../compare.md)); another file there is another table. Means over the videos of a column, with the standard
deviation of the means of single seeds where there are several; **!** is out of order by the
[bounds](../metrics.md#over-long-time). The worlds of the embedded model are toys, and few videos are an indication:
nothing here ranks methods on film."""


def table(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the table of a comparison."""
    videos = results["videos"]
    labels = list(dict.fromkeys(video["label"] for video in videos))
    yield f"    {results['command']}"
    yield ""
    yield ", ".join(f"{name} {value}" for name, value in results["facts"].items()) + f", {len(videos)} videos"
    yield ""
    yield f"| | {' | '.join(f'`{label}`' for label in labels)} |"
    yield "|" + " --- |" * (len(labels) + 1)
    for name in list(results["plan"][0])[1:]:
        yield f"| {name} | {' | '.join(row[name] for row in results['plan'])} |"
    for metric, kind in video_metrics(",".join(name for name in METRICS if name in videos[0]["figures"])).items():
        rows = [(video, numbers(video["figures"].get(metric, {}), kind.spoken)) for video in videos]
        for figure in dict.fromkeys(name for _, found in rows for name in found):
            bound = kind.bounds.get(figure.replace(" ", "_"))
            cells = [_cell([(v["seed"], found[figure]) for v, found in rows if v["label"] == label and figure in found],
                           bound) for label in labels]  # fmt: skip
            yield f"| {metric}: {figure} | {' | '.join(cells)} |"


def _cell(values: Sequence[tuple[int, float]], bound: Any) -> str:
    if not values:
        return "-"
    by_seed: dict[int, list[float]] = {}
    for seed, value in values:
        by_seed.setdefault(seed, []).append(value)
    mean = fmean(value for _, value in values)
    spread = f" +- {stdev(map(fmean, by_seed.values())):.2g}" if len(by_seed) > 1 else ""
    return f"{mean:.3g}{spread}{'' if bound is None or bound.holds(mean) else ' **!**'}"


def leaderboard(files: Sequence[Path]) -> str:
    """Return the page."""
    parts = [HEAD]
    for file in files:
        parts.append(f"## {file.stem}\n\n" + "\n".join(table(json.loads(file.read_text(encoding="utf-8")))))
    return "\n\n".join(parts)


if __name__ == "__main__":
    print(leaderboard([Path(name) for name in sys.argv[1:]] or sorted(RESULTS.glob("*.json"))))
