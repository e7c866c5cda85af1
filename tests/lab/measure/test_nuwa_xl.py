"""What the bench of NUWA-XL says of calls, workers and processes, on the toy model."""

from dataclasses import replace
from typing import Any

import pytest

from lab.measure.nuwa_xl import (
    PAPER_ROW,
    PAPER_TREE,
    Settings,
    asleep,
    counts,
    first_frames,
    rounds,
    whole_video,
    workers,
)
from longtake.models.toy import Toy
from longtake.models.toy_spec import TOY
from longtake.sampler import Sampler
from longtake.samplers.autoregressive.plan import Autoregressive
from longtake.samplers.nuwa_xl.plan import NuwaXl


def toy() -> Toy:
    """The toy with calls as long as the paper's."""
    model = Toy()
    model.spec = replace(TOY, num_frames=16, latent_shape=(3, 16, 8, 8))
    return model


def test_the_gain_of_the_paper_takes_as_many_workers_as_the_finest_level_has_calls() -> None:
    counted = counts(toy().spec, 1024)
    assert (counted["calls"], counted["calls_by_level"], counted["in_a_row"]) == (75, [1, 5, 69], 64)
    taken = {count: rounds(toy(), 1024, count) for count in (1, 2, 68, 69)}
    assert taken[1] == 75 and taken[2] < 64
    gain = 1 - PAPER_TREE / PAPER_ROW
    assert 1 - taken[68] / 64 < gain <= 1 - taken[69] / 64


def test_workers_are_told_in_calls_and_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.measure.nuwa_xl.LENGTHS", (226,))
    monkeypatch.setattr("lab.measure.nuwa_xl.WORKERS", (1, 15))
    report = workers(toy(), repeats=1)
    row, alone, many = (report["226 frames"][name] for name in ("in_a_row", "1 workers", "15 workers"))
    assert (row["calls"], alone["calls"], many["calls"]) == (15, 16, 2)
    assert many["seconds"] == 2 * report["measured"]["call"] > 0
    assert report["226 frames"]["workers_to_be_sooner"] == 2


def test_the_first_frames_take_a_call_a_level() -> None:
    for frames, levels in ((226, 2), (1_000_000, 6)):
        report = first_frames(toy(), frames, 1)
        assert (report["calls"], report["first_frames"]) == (levels, 16)


@pytest.mark.parametrize("sampler", [NuwaXl(), Autoregressive(context=1)], ids=["tree", "in a row"])
def test_two_processes_make_the_frames_of_one(ranks: Any, sampler: Sampler) -> None:
    measured = Settings(model="toy", steps=2, frames=20, processes=(1, 2))
    digests = {ranks.run(count, whole_video, sampler, measured)[0].digest for count in (1, 2)}
    assert len(digests) == 1


@pytest.mark.slow
def test_real_workers_take_the_tasks_of_a_tree_in_the_order_of_the_simulation() -> None:
    report = asleep(toy(), [2], call=0.01, frames=226)
    assert report["2 workers"]["simulated"] == pytest.approx(0.01 * rounds(toy(), 226, 2))
    # No call is sooner than its sleep.
    assert report["2 workers"]["seconds"] >= report["2 workers"]["simulated"]
