"""Figures beside their bars."""

from pathlib import Path

from lab.score.bars import PARTS, PASSING, Settings, least, most, score


def test_a_bar_is_met_from_its_own_value_on() -> None:
    assert [least("x", figure, 90)[3] for figure in (89.9, 90.0, 91)] == [False, True, True]
    assert [most("x", figure, 3)[3] for figure in (2.9, 3.0, 3.1)] == [True, True, False]


def test_a_line_a_figure_with_its_bar(tmp_path: Path) -> None:
    table = score(Settings(parts=("size",), folder=tmp_path))
    assert table.splitlines()[2].endswith("| <= 80 | yes |") and len(table.splitlines()) == 3


def test_what_passes_by_is_the_scenery() -> None:
    assert PASSING == ("drives right", "sails left", "flies up", "dives down")
    assert set(Settings().parts) <= set(PARTS)
