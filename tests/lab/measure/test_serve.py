"""The bench of serving measures both ways of making one video."""

import statistics

import pytest

from lab.measure.serve import Settings, measure


@pytest.mark.slow
def test_both_ways_are_measured() -> None:
    report = measure(Settings(model="toy", frames=16, repeats=2))
    assert len(report["runs"]) == 2 and report["network_calls_before_it"] >= 8
    redo = report["redo"]
    assert redo["made_from_frame"] <= redo["from_frame"] == 8 and redo["bytes_that_stay"] < redo["bytes_of_the_video"]
    for run in report["runs"]:
        first, network = run["first_fragment_seconds"], run["network_seconds_before_it"]
        assert min(first, network) > 0 and run["first_fragment_beside_network_seconds"] == first - network
        assert run["served_over_bare"] == run["served_seconds"] / run["bare_seconds"] > 0
    assert report["served_over_bare"] == statistics.median(run["served_over_bare"] for run in report["runs"])
