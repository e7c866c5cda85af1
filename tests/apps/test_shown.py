"""What is printed is whole at any width."""

from collections.abc import Callable, Sequence

import pytest

from longtake.apps.catalog import models_command, samplers_command
from longtake.apps.shown import pace, print_table

COLUMNS = ("name", "made of", "what it is")
ROWS = (
    ("a-name (default)", "one, another-part, a-third", "words that say at some length what it is"),
    ("b", "-", "something-that-is-named-with-a-very-long-word and more"),
)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_a_table_loses_no_word_at_any_width(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(COLUMNS, ROWS)
    printed = capsys.readouterr().out
    for row in ROWS:
        assert row[0] in printed
        for cell in row:
            assert set(cell.split()) <= set(printed.split())
    longest = max(len(word) for row in ROWS for cell in row for word in cell.split())
    assert max(map(len, printed.splitlines())) <= max(width, 8 + longest)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 130, 200])
@pytest.mark.parametrize("command", [models_command, samplers_command])
def test_the_lists_of_models_and_samplers_are_whole_at_any_width(
    command: Callable[[Sequence[str]], int],
    width: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    command([])
    words = set(capsys.readouterr().out.split())
    monkeypatch.setenv("COLUMNS", str(width))
    command([])
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= width
    # A paragraph has the titles of its columns before their cells, with a colon.
    missing = words - {word for shown in printed.split() for word in (shown, shown.rstrip(":"))}
    assert missing <= {"model", "sampler"}


def test_a_slow_pace_is_not_none():
    assert [pace(rate) for rate in (10.74, 1, 0.0433, 0.0004)] == [
        "10.7 frames/s",
        "1.0 frames/s",
        "0.043 frames/s",
        "0.0004 frames/s",
    ]
