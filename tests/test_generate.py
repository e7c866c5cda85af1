"""The whole way from a request to a file, with a real sampler on the toy model."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import longtake
from longtake._generate import Output, generate
from longtake.errors import CapabilityError, InputError, OutputError
from longtake.models.toy import Toy
from longtake.models.toy_spec import TOY
from longtake.prompts import parse_prompts
from longtake.report import read_order
from longtake.request import PromptTimeline, Request
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.fifo.plan import Fifo
from longtake.samplers.nuwa_xl.plan import NuwaXl
from longtake.samplers.planning import checked_plan
from longtake.video import durable
from longtake.video.read import read_frames

from .forked import in_child

REQUEST = Request(prompts=PromptTimeline((0, 30), ("a red car", "a blue boat")), frames=70, seed=4)
FIFO = Fifo(partitions=3, lookahead=False, eta=0.5, decode_batch=7)


def make(path: Path, request: Request = REQUEST, sampler: Fifo = FIFO, **output):
    return generate(Toy(), request, sampler, Output(path=path, scale=2, **output))


def killed_at(path: Path, nth: int) -> int:
    """Make the video in a child that is killed where the nth point of the writer is reached."""
    reached = 0

    def count(point: str) -> None:
        nonlocal reached
        reached += 1
        if reached == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        durable.reach = count
        make(path)

    return in_child(work)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """A forked child cannot use the parent's pool of threads, and the thread count must not differ between the runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    # It only matters when the power fails, and takes much of the time.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kills", [8, pytest.param(24, marks=pytest.mark.slow)])
def test_killed_anywhere_the_same_call_ends_in_the_same_bytes(tmp_path, monkeypatch, kills):
    whole = tmp_path / "whole.mp4"
    seen: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(durable, "reach", seen.append)
        make(whole)
    # The warm-up commits before the first frame, so early points lie in it.
    assert seen.index("segment-encoded") > 6
    places = np.linspace(1, len(seen), kills).round().astype(int).tolist()
    assert len(set(places)) == kills
    for nth in places:
        path = tmp_path / f"{nth}.mp4"
        assert killed_at(path, nth) == signal.SIGKILL, seen[nth - 1]
        make(path)
        assert path.read_bytes() == whole.read_bytes(), f"killed at {seen[nth - 1]}, number {nth}"


def test_a_finished_run_is_left_alone(tmp_path):
    path = tmp_path / "a.mkv"
    first = make(path)
    content, changed = path.read_bytes(), path.stat().st_mtime_ns
    again = make(path)
    assert not first.finished_before and again.finished_before and again.frames == 70
    assert path.read_bytes() == content and path.stat().st_mtime_ns == changed


def test_a_changed_setting_is_refused_by_name(tmp_path):
    path = tmp_path / "a.mkv"
    make(path)
    with pytest.raises(OutputError, match="seed"):
        make(path, request=replace(REQUEST, seed=5))
    with pytest.raises(OutputError, match="partitions"):
        make(path, sampler=replace(FIFO, partitions=2))
    make(path, request=replace(REQUEST, seed=5), overwrite=True)


def test_an_endless_run_stops_in_good_order_and_goes_on(tmp_path):
    path, endless = tmp_path / "a.mkv", replace(REQUEST, frames=None)

    def stop_at(limit):
        def progress(frames, warnings, doing):
            if frames >= limit:
                raise KeyboardInterrupt

        return progress

    frames = []
    for limit in (40, 100):
        with pytest.raises(KeyboardInterrupt):
            generate(Toy(), endless, FIFO, Output(path=path), progress=stop_at(limit))
        frames.append(np.concatenate(list(read_frames(path))))
        assert len(frames[-1]) >= limit
    assert np.array_equal(frames[1][: len(frames[0])], frames[0])


def test_the_report_the_subtitles_and_the_warnings_come_from_python_too(tmp_path, capsys):
    prompts = PromptTimeline((0, 30, 900), ("a red car", "a blue boat", "a green house"))
    result = make(tmp_path / "a.mkv", replace(REQUEST, prompts=prompts))
    assert result.warnings == ("the video ends at frame 70; the prompts from frame 900 on are not reached",)
    assert f"warning: {result.warnings[0]}" in capsys.readouterr().err
    report = json.loads((tmp_path / "a.json").read_text())
    assert report == result.report and report["complete"] and report["warnings"] == list(result.warnings)
    order = read_order(str(tmp_path / "a.json"))
    assert order.request == replace(REQUEST, prompts=prompts) and order.sampler == FIFO
    assert order.model == "toy" and order.output.scale == 2
    subtitles = (tmp_path / "a.vtt").read_text()
    assert subtitles.count("-->") == 2 and "a blue boat" in subtitles
    seconds = report["run"]["seconds"]
    assert make(tmp_path / "a.mkv", replace(REQUEST, prompts=prompts)).report["run"]["seconds"] == seconds


def test_subtitles_say_that_what_a_video_begins_with_is_given(tmp_path):
    begun = make(tmp_path / "a.mkv", replace(REQUEST, frames=20)) and tmp_path / "a.mkv"
    assert "NOTE" not in (tmp_path / "a.vtt").read_text()
    result = make(tmp_path / "b.mkv", replace(REQUEST, init=str(begun)))
    assert result.plan.given == 7
    assert "\nNOTE The first 7 frames are given, not made as the prompt says: " in (tmp_path / "b.vtt").read_text()
    assert parse_prompts(str(tmp_path / "b.vtt"), REQUEST.frames, 8) == REQUEST.prompts


def test_a_run_that_is_interrupted_says_how_far_it_came(tmp_path):
    def progress(frames, warnings, doing):
        if frames >= 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(Toy(), REQUEST, FIFO, Output(path=tmp_path / "a.mkv"), progress=progress)
    report = json.loads((tmp_path / "a.json").read_text())
    assert not report["complete"] and 40 <= report["frames"] < 70
    assert "not complete" in (tmp_path / "a.vtt").read_text()
    assert generate(Toy(), REQUEST, FIFO, Output(path=tmp_path / "a.mkv")).report["run"]["processes"] == 2


def test_a_report_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(OutputError, match=r"a\.json exists and is not of"):
        make(tmp_path / "a.mkv")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_frames_come_in_memory_as_they_are_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chunks = list(longtake.stream(Toy(), REQUEST, FIFO))
    assert list(tmp_path.iterdir()) == [] and len(chunks) > 3 and all(chunk.dtype == np.uint8 for chunk in chunks)
    generate(Toy(), REQUEST, FIFO, Output(path=tmp_path / "a.mkv"))
    assert np.array_equal(np.concatenate(chunks), np.concatenate(list(read_frames(tmp_path / "a.mkv"))))
    with pytest.raises(InputError, match="fixes the number of steps"):
        longtake.stream(Toy(), replace(REQUEST, steps=3), FIFO)


def test_lossless_outputs_agree(tmp_path):
    make(tmp_path / "a.mkv")
    make(tmp_path / "frames")
    mkv, png = (np.concatenate(list(read_frames(tmp_path / name))) for name in ("a.mkv", "frames"))
    assert mkv.shape == (70, 16, 16, 3) and np.array_equal(mkv, png)


def test_a_model_without_the_capability_is_refused_before_any_work(tmp_path):
    plain = replace(TOY, name="plain", capabilities=frozenset())
    with pytest.raises(CapabilityError, match="fifo needs PerFrameNoise, which the model plain"):
        checked_plan(plain, REQUEST, FIFO)
    with pytest.raises(InputError):
        make(tmp_path / "a.mp4", request=replace(REQUEST, steps=3))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("sampler", "steps"), [(Fifo(partitions=126), None), (Chunked(), 1001), (NuwaXl(), 1001)])
def test_more_steps_than_noise_levels_are_refused_before_the_output_is_touched(tmp_path, sampler, steps):
    with pytest.raises(InputError, match=r"more than the 1000 noise levels that toy was trained at; use fewer --"):
        generate(Toy(), replace(REQUEST, steps=steps), sampler, Output(path=tmp_path / "a.mkv"))
    assert list(tmp_path.iterdir()) == []


def test_a_window_longer_than_the_noise_levels_is_said_to_be_so():
    long = replace(TOY, num_frames=10**11)
    with pytest.raises(InputError, match=r"1000 noise levels .*; use a shorter window \(num_frames\)"):
        checked_plan(long, REQUEST, Fifo(lookahead=False))
