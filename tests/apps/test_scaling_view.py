"""`longtake plan --ranks`: a plan on many processes."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from longtake import rates
from longtake.apps.shown import duration
from longtake.models.toy_spec import TOY

FIFO = ("plan", "a", "--model", "toy", "--frames", "64", "--sampler.partitions", "4", "--ranks", "6")
CLIPS = ("plan", "a", "--frames", "256", "--sampler", "video-infinity", "--ranks", "8", "--dtype", "float32")


def scaling(longtake: Callable, *arguments: str) -> dict[str, Any]:
    ran = longtake(*arguments, "--json")
    assert ran.status == 0, ran.err
    return json.loads(ran.out)["scaling"]


def test_the_table_has_the_powers_of_two_and_what_was_asked_for(longtake: Callable) -> None:
    content = scaling(longtake, *FIFO, "--forward-ms", "100")
    assert content["simulated"] is True
    assert [row["ranks"] for row in content["strong"]] == [1, 2, 4, 6]
    assert [row["frames"] for row in content["weak"]] == [64, 128, 256, 384]
    # Eight windows on six processes: two have two.
    assert content["strong"][-1]["step_seconds"] == pytest.approx(0.2, rel=1e-2)


def test_the_text_says_that_it_is_simulated(longtake: Callable) -> None:
    out = longtake(*FIFO, "--forward-ms", "100", "--link", "nvlink").out
    assert "simulated, not measured: 100 ms a forward, nvlink" in out
    plain = longtake(*FIFO[:-2]).out.splitlines()
    assert [line for line in out.splitlines()[: len(plain)] if not line.startswith("cost")] == [
        line for line in plain if not line.startswith("cost")
    ]


def test_the_cost_is_that_of_one_process_of_the_tables(longtake: Callable) -> None:
    rates.remember_rate("toy", "cpu", "float32", 1e6)
    clips = json.loads(longtake(*CLIPS, "--forward-ms", "100", "--json").out)
    assert clips["seconds"] == pytest.approx(clips["forwards"] * 0.1)
    asked = *FIFO, "--forward-ms", "100", "--dtype", "float32"
    content = json.loads(longtake(*asked, "--json").out)
    alone = content["scaling"]["strong"][0]["seconds"]
    assert content["seconds"] == alone == pytest.approx(content["forwards"] * 0.1, rel=0.05)
    assert f"cost     about {duration(alone)} on one process, as simulated below; " in longtake(*asked).out
    assert "as simulated" not in longtake(*FIFO, "--dtype", "float32").out


def test_clips_send_less_on_every_process_and_the_memory_shrinks(longtake: Callable) -> None:
    rows = scaling(longtake, *CLIPS, "--forward-ms", "100")["strong"]
    assert rows[0]["messages"] == rows[0]["bytes"] == 0
    assert rows[1]["bytes"] > 0
    assert rows[-1]["window_frames"] == 256 // 8
    assert rows[-1]["peak_memory_bytes"] <= rows[0]["peak_memory_bytes"]


def test_a_faster_link_takes_less(longtake: Callable) -> None:
    slow, fast, own = (
        scaling(longtake, *CLIPS, "--forward-ms", "1", *link)["strong"][-1]["seconds"]
        for link in (
            ("--link", "ethernet"),
            ("--link", "nvlink"),
            ("--link", "nvlink", "--latency-us", "50", "--bandwidth-gb", "1.25"),
        )
    )
    assert fast < slow == own


def test_a_remembered_rate_stands_in_for_the_time_of_a_forward(longtake: Callable) -> None:
    assert "--forward-ms" in longtake(*FIFO, "--dtype", "float32").err
    rates.remember_rate("toy", "cpu", "float32", 1e6)
    assert TOY.forward_flops is not None
    content = scaling(longtake, *FIFO, "--dtype", "float32")
    assert content["forward_seconds"] == pytest.approx(TOY.forward_flops / 1e6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plan", "a", "--model", "toy", "--link", "pcie"), "--link has an effect only with --ranks"),
        ((*FIFO[:-1], "0"), "--ranks 1 to 4096"),
        ((*FIFO[:-1], "9", "--forward-ms", "1"), "9 processes"),
        ((*FIFO, "--forward-ms", "0"), "--forward-ms 0 cannot be"),
        ((*FIFO, "--forward-ms", "1", "--bandwidth-gb", "-1"), "--bandwidth-gb -1 cannot be"),
        ((*FIFO, "--forward-ms", "1", "--latency-us", "-1"), "--latency-us -1 cannot be"),
        ((*FIFO, "--forward-ms", "1", "--frames", "endless"), "endless"),
        (("generate", "a", "--ranks", "2"), "no option '--ranks'"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(longtake: Callable, arguments: tuple[str, ...], message: str) -> None:
    ran = longtake(*arguments)
    assert ran.status == 2
    assert message in ran.err
    assert ran.err.count("\n") == 1
