"""The report beside a video says how visible the seams are where its sampler has them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longtake.metrics.consistency import consistency
from longtake.metrics.of_video import _seams
from longtake.models.hub.loading import Loading
from longtake.models.toy_spec import TOY
from longtake.report import Order
from longtake.request import PromptTimeline, Request
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.nuwa_xl.plan import NuwaXl
from longtake.video.output import Output
from longtake.video.read import read_frames


def request(frames: int) -> Request:
    return Request(prompts=PromptTimeline.constant("a"), frames=frames)


def test_seams_are_where_another_call_made_the_frame_before() -> None:
    """The toy has windows of 8 frames, so calls of NUWA-XL's finest level meet every 7."""
    assert list(Chunked().plan(request(25), TOY).seams(25)) == [8, 16, 24]
    sampler = NuwaXl()
    assert list(sampler.plan(request(8), TOY).seams(8)) == []
    plan = sampler.plan(request(25), TOY)
    assert list(plan.seams(25)) == [1, 7, 8, 14, 15, 21, 22]
    assert list(sampler.part(plan, range(6, 16)).seams(10)) == [1, 2, 8, 9]


@pytest.mark.parametrize("part", [(), ("--range", "3:31")], ids=["whole", "part"])
def test_the_report_measures_the_seams_of_the_tree(longtake: Callable[..., Any], part: tuple[str, ...]) -> None:
    settings = ("--sampler", "nuwa-xl", "--frames", "31", "--steps", "1", "--guidance", "1", "-o", "out.mkv")
    assert longtake("generate", "a red car", *settings, *part).status == 0
    measured = json.loads(Path("out.json").read_text())["quality"]["seam_ratio"]
    seams = [12, 13, 27] if part else [1, 15, 16, 30]
    assert measured == consistency(read_frames(Path("out.mkv"), scale=1), seams=seams).seam_ratio


def test_evaluate_drift_measures_the_seams_and_leaves_out_the_cuts_as_the_report_does(
    longtake: Callable[..., Any],
) -> None:
    story = ("--prompts", "a cat spins in the forest | a fish swims in the sea", "--sampler", "chunked", "--steps", "1")
    assert longtake("generate", *story, "--frames", "64", "--scale", "2", "-o", "out.mkv").status == 0
    quality = json.loads(Path("out.json").read_text())["quality"]
    measured = json.loads(longtake("evaluate", "drift", "out.mkv", "--json").out)
    curves, flags = measured.pop("curves"), measured.pop("flags")
    (warning,) = measured["warnings"]
    assert "needs 128 or more, and there are 64" in warning
    assert measured == {**quality, "warnings": [warning]} and set(flags) <= set(quality)
    # One step follows no frame, another one a change that was asked for.
    assert [len(curve) for curve in curves.values()] == [64, 64, 64, 62]
    assert quality["cuts"] == 1 and quality["seam_ratio"] > 0
    report = json.loads(Path("out.json").read_text())
    Path("out.json").write_text(json.dumps(report | {"model": report["model"] | {"name": "gone"}}))
    without = longtake("evaluate", "drift", "out.mkv")
    assert without.status == 0 and "seam ratio" not in without.out and "no seam ratio: " in without.err


def test_the_model_of_a_report_is_asked_for_as_it_was_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    monkeypatch.setattr("longtake.metrics.of_video.model_spec", lambda name, **told: asked.update(told) or TOY)
    loading = Loading(revision="old", lora=("gone.safetensors",))
    order = Order(
        model="a/model",
        digest=None,
        loading=loading,
        request=request(25),
        sampler=Chunked(),
        device="cpu",
        dtype="float32",
        output=Output(path=Path("out.mkv")),
    )
    assert list(_seams(order)[0]) == [8, 16, 24] and asked == {"revision": "old"}
