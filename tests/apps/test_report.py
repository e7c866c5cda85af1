"""What a run wrote about itself can be read by every command that takes a report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longtake._generate import generate
from longtake.errors import InputError
from longtake.models.toy import Toy
from longtake.report import LAYOUT, read_order
from longtake.request import Request
from longtake.samplers import SAMPLERS, sampler_class
from longtake.samplers.fifo.plan import Fifo
from longtake.video.output import Output


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


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a.mkv", "cannot read a.mkv as a video: it ends before its first frame; leave it out"),
        ("a.mp4", "a.mp4 has no frames, so nothing can be measured"),
        ("a", "a holds no frames: there is no 000000.png"),
    ],
)
def test_a_run_that_has_no_frames_yet_is_said_to_have_none(
    longtake: Callable[..., Any], name: str, problem: str
) -> None:
    def stop(*told: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(Toy(), Request(prompts="a", frames=24), Fifo(), Output(path=Path(name)), progress=stop)
    for metric in ("drift", "vbench"):
        scored = longtake("evaluate", metric, name)
        assert (scored.status, scored.err) == (2, f"longtake: {problem}\n")


@pytest.mark.parametrize("value", [[1, 0.5], [1, 0.5, 0.5, 0.5], [0.5, 1, 1], ["1", 1, 1], 3, {"0": 1}])
def test_a_tuple_of_another_form_is_refused(longtake: Callable[..., Any], value: Any) -> None:
    longtake("generate", "a", "--model", "toy", "--sampler", "video-infinity", "--frames", "24", "-o", "a.mkv")
    report = json.loads(Path("a.json").read_text())
    report["sampler"]["local_phase"] = value
    Path("a.json").write_text(json.dumps(report))
    with pytest.raises(InputError, match="local_phase.* which it cannot be"):
        read_order("a.json")


RUN = ("generate", "a", "--model", "toy", "--frames", "24")


@pytest.mark.parametrize("damage", ["lost", "garbled", "empty", "nested"])
def test_a_report_that_is_lost_or_garbled_is_written_again(longtake: Callable[..., Any], damage: str) -> None:
    assert longtake(*RUN, "-o", "a.mkv").status == 0
    report, video = Path("a.json"), Path("a.mkv").read_bytes()
    right = json.loads(report.read_text())
    report.unlink()
    if damage != "lost":
        report.write_text({"garbled": '{"longtake": 1, "comp', "empty": "", "nested": "[" * 100_000}[damage])
    again = longtake(*RUN, "-o", "a.mkv")
    assert again.status == 0, again.err
    written = json.loads(report.read_text())
    assert (
        written["complete"] is True and written["sampler"] == right["sampler"] and Path("a.mkv").read_bytes() == video
    )


def test_two_outputs_never_share_a_report(longtake: Callable[..., Any]) -> None:
    assert longtake(*RUN, "-o", "a.mkv").status == 0
    before = Path("a.json").read_bytes()
    for more in ((), ("--overwrite",)):
        refused = longtake(*RUN, "--scale", "2", "-o", "a.mp4", *more)
        assert refused.status == 2 and "a.json is of a.mkv" in refused.err and "another name" in refused.err
    assert Path("a.json").read_bytes() == before and not Path("a.mp4").exists()


def test_somebody_elses_file_is_not_replaced(longtake: Callable[..., Any]) -> None:
    Path("a.json").write_text('{"mine": 1}')
    assert "a.json exists and is not of a.mkv" in longtake(*RUN, "-o", "a.mkv").err
    for file in ("../a.mkv", "b/a.mkv", "/", "..", ".", "", ["a.mkv"]):
        Path("a.json").write_text(json.dumps({"longtake": LAYOUT, "output": {"file": file}}))
        assert "a.json exists and is not of a.mkv" in longtake(*RUN, "-o", "a.mkv").err
    Path("a.json").write_text("notes")
    assert "a.json exists and is not of a.mkv" in longtake(*RUN, "-o", "a.mkv").err
