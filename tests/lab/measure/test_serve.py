"""The bench of serving measures both ways of making one video."""

import pytest

from lab.measure.serve import Settings, measure


@pytest.mark.slow
def test_both_ways_are_measured() -> None:
    report = measure(Settings(model="toy", frames=16, repeats=2))
    assert len(report["runs"]) == 2 and report["network_calls_before_it"] >= 8
    assert 0 < report["network_seconds_before_it"] < report["first_fragment_seconds"] <= report["served_seconds"]
    redo = report["redo"]
    assert redo["made_from_frame"] <= redo["from_frame"] == 8 and redo["bytes_that_stay"] < redo["bytes_of_the_video"]
    ratios = [run["served_seconds"] / run["bare_seconds"] for run in report["runs"]]
    assert min(ratios) <= report["served_over_bare"] <= max(ratios)
