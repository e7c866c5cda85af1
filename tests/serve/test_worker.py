"""A worker in this process: its videos are those of the library's own calls, whatever is asked of it on the way."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake._generate import generate
from longtake.apps.serve import planned
from longtake.models.toy import Toy
from longtake.report import read_order, report_path
from longtake.request import PromptTimeline, Request
from longtake.samplers.chunked.plan import Chunked
from longtake.serve.job import ExtendJob, Job, RedoJob, VideoJob, order_of
from longtake.serve.queue import Queue
from longtake.serve.settings import Computing, Quota
from longtake.serve.worker import Worker
from longtake.steer.run import extend, redo
from longtake.video import durable
from longtake.video.durable import failed_write
from longtake.video.output import Output
from longtake.video.sink import Sink

CAR = PromptTimeline.constant("a red car")
BOAT = PromptTimeline.constant("a blue boat")
ASKED = VideoJob(prompts=CAR, model="toy", sampler="chunked", steps=2, frames=48, seed=3)
QUIET: Any = lambda *told: None  # noqa: E731


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """One thread, no rates of other runs, and a video is not looked at when it is complete; fsync only matters when the
    power fails."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr("longtake.journal._quality", lambda order, plan: None)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "served", Quota(keep_free=0))


@pytest.fixture
def worker(queue: Queue) -> Worker:
    return Worker(queue, "anna")


def at(queue: Queue, frames: int, monkeypatch: pytest.MonkeyPatch, action: Callable[[Job], object]) -> None:
    """Do something once, as soon as the worker tells that there are so many frames."""
    tell, done = queue.progress, list[bool]()

    def progress(job: Job, made: int, *told: Any) -> Job | None:
        if made >= frames and not done:
            done.append(True)
            action(job)
        return tell(job, made, *told)

    monkeypatch.setattr(queue, "progress", progress)


def bare(worker: Worker, path: Path, asked: VideoJob = ASKED) -> bytes:
    """Return the bytes of the video as a run by itself makes it."""
    model, _ = worker.model(order_of(asked, path, path.parent, Computing()))
    request = Request(prompts=asked.prompts, frames=asked.frames, seed=asked.seed, steps=asked.steps)
    generate(model, request, Chunked(), Output(path=path, segment=asked.segment), progress=QUIET)
    return path.read_bytes()


def again(worker: Worker, video: Path, path: Path) -> bytes:
    """Return the bytes that the report of a video makes from nothing."""
    order = read_order(str(report_path(video)))
    output = replace(order.output, path=path)
    model, _ = worker.model(order)
    generate(model, order.request, order.sampler, output, progress=QUIET)
    return path.read_bytes()


def done(queue: Queue, id: str) -> bytes:
    job = queue.get(id)
    assert job.status == "completed", job.error
    assert job.frames_done == job.frames_total
    return queue.path(job).read_bytes()


def test_a_video_is_that_of_a_run_by_itself(queue: Queue, worker: Worker, tmp_path: Path):
    job = queue.add(ASKED)
    assert worker.do_next() and not worker.do_next()
    assert done(queue, job.id) == bare(worker, tmp_path / "bare.mp4")
    now = queue.get(job.id)
    assert now.first_at and now.started_at and now.completed_at
    assert now.started_at <= now.first_at <= now.completed_at


def test_the_model_stays_loaded_from_job_to_job(queue: Queue, worker: Worker, monkeypatch: pytest.MonkeyPatch):
    loads = list[str]()

    def load(name: str, *told: Any, **loading: Any) -> Toy:
        loads.append(name)
        return Toy()

    monkeypatch.setattr("longtake.models.kept.load_model", load)
    for seed in (1, 2):
        queue.add(replace(ASKED, frames=8, seed=seed))
    while worker.do_next():
        pass
    assert loads == ["toy"] and queue.counts()["completed"] == 2


def test_how_long_a_video_takes_is_known_from_the_last_one(queue: Queue, worker: Worker, tmp_path: Path):
    def seconds() -> float | None:
        return planned(order_of(ASKED, tmp_path / "next.mp4", queue.uploads, queue.computing))["seconds"]

    # In a few frames, overhead drowns the rate.
    for frames, is_known in ((8, False), (48, True)):
        queue.add(replace(ASKED, frames=frames))
        worker.do_next()
        assert (seconds() is not None) == is_known


@pytest.mark.parametrize("change", ["pause", pytest.param("cancel", marks=pytest.mark.slow)])
def test_what_was_stopped_on_the_way_goes_on_to_the_same_bytes(
    queue: Queue, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
):
    job = queue.add(ASKED)
    at(queue, 24, monkeypatch, lambda job: getattr(queue, change)(job.id))
    assert worker.do_next() and not worker.do_next()
    stopped = queue.get(job.id)
    assert stopped.status == {"pause": "paused", "cancel": "cancelled"}[change] and stopped.worker is None
    assert 0 < stopped.frames_done < 48
    queue.resume(job.id)
    worker.do_next()
    assert done(queue, job.id) == bare(worker, tmp_path / "bare.mp4")


@pytest.mark.slow
def test_a_deleted_video_is_gone_as_soon_as_its_worker_lets_go(
    queue: Queue, worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    job = queue.add(ASKED)
    at(queue, 24, monkeypatch, lambda job: queue.delete(job.id))
    worker.do_next()
    assert queue.list() == [] and not list(queue.folder.glob(f"{job.id}*"))


def test_extensions_and_redoings_are_those_of_the_library(queue: Queue, worker: Worker, tmp_path: Path):
    parent = queue.add(ASKED)
    longer = queue.add(ExtendJob(parent=parent.id, frames=24, prompts=BOAT))
    other = queue.add(RedoJob(parent=parent.id, frame=30, prompts=BOAT, seed=9))
    while worker.do_next():
        pass
    model, _ = worker.model(read_order(str(report_path(queue.path(parent)))))
    path = tmp_path / "bare.mp4"
    bare(worker, path)
    extend(path, 24, BOAT, tmp_path / "longer.mp4", model=model, progress=QUIET)
    redo(path, 30, BOAT, 9, tmp_path / "other.mp4", model=model, progress=QUIET)
    assert done(queue, longer.id) == (tmp_path / "longer.mp4").read_bytes()
    assert done(queue, other.id) == (tmp_path / "other.mp4").read_bytes()
    # What was foreseen is what has become of it.
    assert queue.get(longer.id).prompts == longer.prompts and queue.get(other.id).prompts == other.prompts
    assert queue.get(other.id).seed == 9


def test_prompts_that_are_told_on_the_way_hold_and_are_repeated(
    queue: Queue, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    job = queue.add(ASKED)
    at(queue, 16, monkeypatch, lambda job: queue.tell(job.id, BOAT, 16))
    worker.do_next()
    made, order = done(queue, job.id), read_order(str(report_path(queue.path(job))))
    assert order.request.turns and order.request.prompts.texts == ("a red car", "a blue boat")
    assert made == again(worker, queue.path(job), tmp_path / "again.mp4") != bare(worker, tmp_path / "bare.mp4")


@pytest.mark.slow
def test_prompts_that_are_told_of_what_waits_hold_from_the_start(queue: Queue, worker: Worker, tmp_path: Path):
    job = queue.add(ASKED)
    queue.tell(job.id, BOAT)
    worker.do_next()
    assert done(queue, job.id) == bare(worker, tmp_path / "bare.mp4", replace(ASKED, prompts=BOAT))


def test_prompts_that_are_told_while_it_rests_hold_when_it_goes_on(
    queue: Queue, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    job = queue.add(ASKED)
    at(queue, 24, monkeypatch, lambda job: queue.pause(job.id))
    worker.do_next()
    queue.tell(job.id, BOAT)
    queue.resume(job.id)
    worker.do_next()
    assert done(queue, job.id) == again(worker, queue.path(job), tmp_path / "again.mp4")
    assert read_order(str(report_path(queue.path(job)))).request.turns


@pytest.mark.parametrize(
    "point",
    [
        "run-claimed",
        "branch-copied",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("record-written", "header-written", "branch-claimed")
        ),
    ],
)
def test_a_kill_at_the_very_start_costs_nothing(
    queue: Queue, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
):
    parent = queue.add(ASKED)
    worker.do_next()
    job = queue.add(ExtendJob(parent=parent.id, frames=16) if "branch" in point else replace(ASKED, frames=64))

    def die(reached: str) -> None:
        if reached == point:
            raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(durable, "reach", die)
        with pytest.raises(KeyboardInterrupt):
            worker.do_next()
    # Prompts that are told meanwhile are no reason not to begin.
    if "branch" not in point:
        queue.tell(job.id, BOAT)
    queue.give_back()
    worker.do_next()
    asked = replace(ASKED, frames=64, prompts=CAR if "branch" in point else BOAT)
    assert done(queue, job.id) == bare(worker, tmp_path / "bare.mp4", asked)


def test_a_full_disk_halts_the_queue_and_fails_nothing(
    queue: Queue, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    job = queue.add(ASKED)

    def full(*told: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as filled:
        filled.setattr(durable, "write_all", full)
        worker.do_next()
    assert queue.get(job.id).status == "queued"
    assert "the disk is full" in (queue.halted() or "") and str(queue.folder) not in (queue.halted() or "")
    assert not worker.do_next()
    monkeypatch.setattr("longtake.serve.queue.time.time", lambda: 4e9)
    assert queue.halted() is None
    monkeypatch.undo()
    queue._rows.base.execute("DELETE FROM halt")
    worker.do_next()
    assert done(queue, job.id) == bare(worker, tmp_path / "bare.mp4")


def test_a_failure_is_told_in_words_and_the_next_job_is_made(
    queue: Queue, worker: Worker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    refused, broken, fine = (queue.add(replace(ASKED, frames=8, seed=seed)) for seed in range(3))
    errors = [failed_write(OSError(errno.EACCES, "no"), queue.folder / "a", 8), RuntimeError("out of memory \x1b[2J")]
    append = Sink.append

    def failing(sink: Sink, chunk: Any) -> None:
        if errors:
            raise errors.pop(0)
        append(sink, chunk)

    monkeypatch.setattr(Sink, "append", failing)
    while worker.do_next():
        pass
    problem = queue.get(refused.id).error
    # Who asked by HTTP has neither -o nor a command to give again.
    told = "cannot write a: no; whoever has the server can mend that, and then resume it or make it again"
    assert problem and (problem.code, problem.message) == ("output_error", told)
    fault = queue.get(broken.id).error
    assert fault and fault.code == "internal_error" and "RuntimeError: out of memory" in fault.message
    shown = capsys.readouterr().err
    assert "RuntimeError: out of memory \\x1b[2J" in shown and "\x1b" not in shown + fault.message
    assert queue.get(fine.id).status == "completed"


def test_a_worker_that_is_told_to_stop_lets_go_of_its_job(
    queue: Queue, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    job = queue.add(ASKED)

    def stop(job: Job) -> None:
        worker.stopping = True

    at(queue, 24, monkeypatch, stop)
    worker.run()
    assert queue.get(job.id).status == "queued" and queue.get(job.id).worker is None
    worker.stopping = False
    worker.do_next()
    assert done(queue, job.id) == bare(worker, tmp_path / "bare.mp4")
