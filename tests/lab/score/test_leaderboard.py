"""The page has a table of every file of results, and below it who ranks last."""

import json
from pathlib import Path

from lab.score.leaderboard import Settings, page


def written(file: Path, plan: list[dict[str, str]], **freezes: list[int]) -> None:
    """Write results of a few videos, of which the longest freeze was measured."""
    videos = [
        {"label": label, "seed": seed, "figures": {"drift": {"longest_freeze": value}}}
        for label, values in freezes.items()
        for seed, value in enumerate(values)
    ]
    facts = {"model": "sprites", "machine": "a computer"}
    file.write_text(json.dumps({"command": "longtake compare", "facts": facts, "plan": plan, "videos": videos}))


def test_a_table_of_samplers_with_controls_below(tmp_path: Path):
    plan = [{"sampler": name, "steps": "4", "videos": "3"} for name in ("fifo", "chunked")]
    written(tmp_path / "stories-8.json", plan, fifo=[0, 1], chunked=[9, 9])
    written(tmp_path / "stories-8-controls.json", [], real=[0], frozen=[7])
    text = page(Settings(results=tmp_path))
    assert "## stories-8\n\n    longtake compare\n\nmodel sprites, machine a computer, 4 videos of 6\n" in text
    assert "| steps | 4 | 4 |" in text and "| drift: longest freeze | **0.5 +- 0.71** | 9 +- 0 **!** |" in text
    assert "## Controls of stories-8" in text and "| | `real` | `frozen` |" in text
    assert "1 are measured, and of these 0 hold" in text
    assert "| frozen | drift: longest freeze | 7 | 0 | 9, `chunked` | **no** |" in text


def test_without_controls_nobody_is_ranked(tmp_path: Path):
    written(tmp_path / "sprites-8.json", [{"sampler": "fifo", "videos": "1"}], fifo=[0])
    text = page(Settings(results=tmp_path))
    assert "1 videos\n" in text and "Controls of" not in text and "What this toy world can and cannot say" in text


def test_tables_of_one_kind_are_in_the_order_of_their_frames(tmp_path: Path):
    for name in ("fast-1024", "fast-256", "fast-4096", "episodes-512", "notes"):
        written(tmp_path / f"{name}.json", [{"sampler": "fifo", "videos": "1"}], fifo=[0])
    written(tmp_path / "fast-256-controls.json", [], real=[0])
    titles = [line[3:] for line in page(Settings(results=tmp_path)).splitlines() if line.startswith("## ")]
    assert titles[:-1] == [
        "episodes-512", "fast-256", "Controls of fast-256", "fast-1024", "fast-4096", "notes"
    ]  # fmt: skip


def test_a_sampler_that_was_compared_later_has_its_own_plan_and_the_best_is_bold(tmp_path: Path):
    plan = [{"sampler": name, "steps": steps, "videos": "2"} for name, steps in (("new", "9"), ("fifo", "4"))]
    written(tmp_path / "a-8.json", plan, fifo=[0, 0], new=[1, 1])
    text = page(Settings(results=tmp_path))
    assert "| | `fifo` | `new` |" in text and "| steps | 4 | 9 |" in text
    assert "| drift: longest freeze | **0 +- 0** | 1 +- 0 |" in text
    written(tmp_path / "a-8-controls.json", [], real=[0, 0], frozen=[1, 1])
    assert page(Settings(results=tmp_path)).count("**0 +- 0**") == 1
