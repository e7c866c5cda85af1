"""What a page says: tables, with what is best of a row and what only seems so, and charts."""

from dataclasses import replace
from pathlib import Path

import pytest

from longtake.apps.compare.figures import Found, figure_rows
from longtake.apps.compare.finished import Finished, Looks, numbers, video_metrics
from longtake.apps.compare.page import COLOURS, Page, _dashes, _stories, drawn, rendered

DRIFT = video_metrics("drift")["drift"]
PROMPTS = video_metrics("prompts")["prompts"]


def videos(name: str, **columns: list[float]) -> list[Found]:
    """Return a video of every column for each seed, with a figure of these values."""
    return [(label, seed, {name: value}) for label, values in columns.items() for seed, value in enumerate(values)]


@pytest.mark.parametrize(
    ("metric", "name", "columns", "best"),
    [
        (PROMPTS, "motion", {"a": [0.8, 0.82], "b": [0.95, 0.97], "c": [0.9, 0.9]}, "b"),
        (DRIFT, "longest freeze", {"a": [0, 0], "b": [1, 1]}, "a"),
        (DRIFT, "seam ratio", {"a": [0.5, 0.51], "b": [1.3, 1.31]}, "b"),
        # Seeds scatter by more than columns differ.
        (PROMPTS, "motion", {"a": [0.8, 1.0], "b": [0.9, 0.96]}, None),
        # The runner-up is clear of it, and one that is worse in the mean is not.
        (PROMPTS, "motion", {"a": [0.95, 0.95], "b": [0.9, 0.9], "c": [0.75, 0.99]}, None),
        (PROMPTS, "motion", {"a": [1, 1], "b": [1, 1], "c": [0.8, 0.8]}, None),
        (PROMPTS, "motion", {"a": [1], "b": [0.8]}, None),
        (PROMPTS, "motion", {"a": [1, 1]}, None),
        # Other videos.
        (PROMPTS, "motion", {"a": [1, 1], "b": [0.8, 0.8, 0.8]}, None),
        # All are out of order.
        (PROMPTS, "motion", {"a": [0.3, 0.3], "b": [0.1, 0.1]}, None),
        # A still picture would be best.
        (DRIFT, "mean step", {"a": [1, 1], "b": [9, 9]}, None),
        (DRIFT, "colour drift", {"a": [1, 1], "b": [9, 9]}, None),
    ],
)
def test_best_is_what_seeds_do_not_explain(metric, name: str, columns: dict[str, list[float]], best: str | None):
    ((found, cells),) = figure_rows(metric, list(columns), videos(name, **columns))
    assert found == name and [cell.best for cell in cells if cell] == [label == best for label in columns]


def test_nothing_is_best_of_a_row_that_lacks_a_column():
    ((_, cells),) = figure_rows(PROMPTS, ["a", "b", "c"], videos("all", a=[1, 1], b=[0.5, 0.5]))
    assert cells[2] is None and not any(cell.best for cell in cells if cell)


@pytest.mark.parametrize(("changes", "rows"), [(8, 9), (9, 1)])
def test_the_delays_of_a_long_story_have_no_row_each(changes: int, rows: int):
    numbers = {"delay": 1.0} | {f"delay at frame {64 * number}": 1.0 for number in range(changes)}
    assert len(figure_rows(video_metrics("switches")["switches"], ["a"], [("a", 0, numbers)])) == rows


def test_a_cell_has_the_mean_of_all_and_the_spread_of_seeds():
    found: list[Found] = [("a", seed, {"mean step": value}) for seed, value in ((0, 1), (0, 3), (1, 4), (1, 4))]
    ((_, cells),) = figure_rows(DRIFT, ["a"], found)
    assert cells[0] and cells[0].text("+-") == "3 +- 1.4"


@pytest.mark.parametrize(
    ("size", "played"), [(1, "a0 b0 A0 B0 a1 b1 A1 B1"), (3, "a0 b0 A0 B0 a1 b1"), (4, "a0 b0 A0 B0"), (9, "a0 b0")]
)
def test_stories_play_as_a_whole_as_long_as_there_is_room(monkeypatch: pytest.MonkeyPatch, size: int, played: str):
    monkeypatch.setattr("longtake.apps.compare.page._MOST_PLAYED", 18)
    videos = [finished(label, story, seed, size) for label in "ab" for seed in (0, 1) for story in "sS"]
    shown = [video.path.name for _, groups in stories_of(videos) for group in groups for video in group.played]
    assert sorted(shown) == sorted(played.split())
    mixed = [finished(label, "", seed, size) for label, seed in (("a", 3), ("b", None), ("c", 1))]
    ((_, (group,)),) = stories_of(mixed)
    assert len(group.played) == min(3, 18 // size) and len(group.unplayed) == 3 - len(group.played)


def test_a_page_says_in_its_text_what_is_marked_and_why():
    figures = {"a": {"longest_freeze": 0}, "<b>": {"longest_freeze": 9}}
    videos = [
        replace(finished(label, "a story", seed, 1), looks=None, figures={"drift": each}, reasons={"video": "gone"})
        for label, each in figures.items()
        for seed in (0, 1)
    ]
    page = Page(title="", summary="", command="", videos=videos, metrics={"drift": DRIFT}, facts={})
    html = rendered(page)
    assert "marked !</span>: drift: longest freeze at most 1 (what real sprite worlds of" in html
    assert (
        '<td class="best">0 \u00b1 0</td>' in html and "9 \u00b1 0 !</td>" in html and html.count('class="best">') == 2
    )
    assert "<dt>all</dt><dd>video: gone</dd>" in html and "<b>" not in html
    alone = rendered(replace(page, videos=videos[::2]))
    assert 'class="best">' not in alone and "\u00b1" not in alone


def test_a_remark_on_many_videos_says_of_how_many():
    videos = [
        replace(finished(label, story, seed, 1), looks=None, reasons={} if story == "s" else {"video": "gone"})
        for label in "ab"
        for story in "sS"
        for seed in range(5)
    ]
    page = Page(title="", summary="", command="", videos=videos, metrics={}, facts={})
    assert "<dt>10 of 20 videos</dt><dd>video: gone</dd>" in rendered(page)
    assert "<dt>A0, A1, A2, A3, B0, B1, B2, B3</dt>" in rendered(
        replace(page, videos=[v for v in videos if v.seed != 4])
    )


def finished(label: str, story: str, seed: int | None, size: int) -> Finished:
    """Return a video whose copy has so many bytes."""
    name = f"{label.upper() if story == 'S' else label}{seed}"
    looks = Looks(num_frames=1, width=1, height=1, seconds=1, places=[0], pictures=[], copy=b"x" * size)
    return Finished(path=Path(name), label=label, story=story, seed=seed, order=None, sha256=None, looks=looks)


def stories_of(videos: list[Finished]):
    """Return what is shown side by side."""
    return _stories(Page(title="", summary="", command="", videos=videos, metrics={}, facts={}))


def test_numbers_are_those_that_a_table_can_show():
    figures = {
        "num_frames": 3,
        "step_ratio": 1.5,
        "lags": {1: 0.5, 4: None},
        "flags": ["x"],
        "curves": {"a": [1.0]},
        "b": None,
    }
    assert numbers(figures, {"lags": "similar after {}"}) == {"step ratio": 1.5, "similar after 1": 0.5}


def test_a_chart_has_the_colours_of_the_page_and_no_more_than_was_measured():
    curves = {"one": [[(10, [0.0, 1.0])]], "two": [[(20, [1.0, 2.0, 3.0]), (10, [2.0])], [(20, [4.0])]], "three": []}
    svg = drawn("a <title>", curves)
    assert svg.startswith("<svg") and "a &lt;title&gt;" in svg
    assert "var(--c0)" in svg and "var(--c1)" in svg and "var(--c2)" not in svg and "currentColor" in svg
    assert svg == drawn("a <title>", curves)


def test_lines_of_one_colour_have_other_dashes():
    looks = [(number % COLOURS, _dashes(number)) for number in range(4 * COLOURS)]
    assert len(set(looks)) == len(looks)
