"""What a run wrote about itself can be read by every command that takes a report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longtake.apps.report import read_order
from longtake.errors import InputError
from longtake.samplers import SAMPLERS, sampler_class


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_report_of_every_sampler_is_read_by_every_command_that_takes_one(
    longtake: Callable[..., Any], name: str
) -> None:
    settings = ("--model", "toy", "--sampler", name, "--frames", "24", "--scale", "2")
    made = longtake("generate", "a", *settings, "-o", "a.mkv")
    assert made.status == 0, made.err
    order = read_order("a.json")
    assert order.sampler == sampler_class(name)() and hash(order.sampler) == hash(sampler_class(name)())
    again = longtake("generate", "--from", "a.json", "-o", "b.mkv", "--dry-run")
    assert again.status == 0, again.err
    scored = longtake("evaluate", "drift", "a.mkv")
    # The report has been read; the toy's frames are too small for the score.
    assert "a.mkv has no frames of 16 pixels or more" in scored.err


@pytest.mark.parametrize("value", [[1, 0.5], [1, 0.5, 0.5, 0.5], [0.5, 1, 1], ["1", 1, 1], 3, {"0": 1}])
def test_a_tuple_of_another_form_is_refused(longtake: Callable[..., Any], value: Any) -> None:
    longtake("generate", "a", "--model", "toy", "--sampler", "video-infinity", "--frames", "24", "-o", "a.mkv")
    report = json.loads(Path("a.json").read_text())
    report["sampler"]["local_phase"] = value
    Path("a.json").write_text(json.dumps(report))
    with pytest.raises(InputError, match="local_phase is .* which it cannot be"):
        read_order("a.json")
