"""The queue by itself, without a process: what it takes, in which order it gives, and what each thing may become."""

import os
import shutil
import sqlite3
import threading
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from longtake.errors import CapabilityError, InputError, OutputError
from longtake.request import PromptTimeline
from longtake.serve.foresee import QuotaError
from longtake.serve.job import Asked, ExtendJob, Job, Problem, RedoJob, VideoJob
from longtake.serve.queue import Queue
from longtake.serve.rows import UnknownJobError
from longtake.serve.settings import Access, Computing, Quota
from longtake.serve.supervisor import gpus
from longtake.video.files import state_folder

CAR = PromptTimeline.constant("a red car")
BOAT = PromptTimeline.constant("a blue boat")
ASKED = VideoJob(prompts=CAR, model="toy", frames=64, seed=3)
Queues = Callable[..., Queue]


@pytest.fixture
def queues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Queues:
    """Open the queue of a folder, as a process would, on a disk that need not survive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    return lambda **quota: Queue(tmp_path, Quota(**{"keep_free": 0, **quota}), careful=False)


@pytest.fixture
def queue(queues: Queues) -> Queue:
    return queues()


def held(queue: Queue) -> Job:
    job = queue.claim("anna")
    assert job is not None
    return job


def ids(jobs: list[Job]) -> list[str]:
    return [job.id for job in jobs]


def test_what_was_asked_for_comes_back_as_it_was(queues: Queues):
    story = PromptTimeline((0, 32), ("a red car", "a blue boat"))
    asked = replace(ASKED, prompts=story, settings={"partitions": 2}, guidance=2.5, size="32x32", fps=12.5, seed=2**40)
    made = queues().add(asked)
    job = queues().get(made.id)
    assert job.asked == asked and job == made
    assert (job.verb, job.status, job.position, job.prompts) == ("generate", "queued", 1, story)
    assert (job.frames_total, job.fps, job.seed, job.file) == (64, 12.5, 2**40, f"{job.id}.mp4")


def test_a_size_that_is_a_whole_multiple_of_the_models_own_enlarges_its_pixels(queue: Queue):
    own = queue.add(ASKED)
    large = queue.add(replace(ASKED, size=f"{3 * own.width}x{3 * own.height}"))
    assert (large.width, large.height) == (3 * own.width, 3 * own.height)


@pytest.mark.parametrize(
    "asked, error, words",
    [
        (replace(ASKED, model="toyy"), InputError, "did you mean 'toy'"),
        (replace(ASKED, model="/etc"), InputError, "no model"),
        (replace(ASKED, sampler="fifi"), InputError, "did you mean 'fifo'"),
        (replace(ASKED, settings={"partition": 2}), InputError, "partitions"),
        (replace(ASKED, settings={"partitions": "2"}), InputError, "whole number"),
        (replace(ASKED, settings={"keyframes": "/etc"}), InputError, "names files of the server"),
        (replace(ASKED, input_reference="../secret.png"), InputError, "no name of an upload"),
        (replace(ASKED, input_reference="gone.png"), InputError, "gone.png"),
        (replace(ASKED, size="big"), InputError, "no width and height"),
        (replace(ASKED, frames=None), QuotaError, "endless"),
        (replace(ASKED, frames=1001), QuotaError, "up to 1000"),
        (replace(ASKED, frames=0), InputError, "0 frames"),
        (replace(ASKED, steps=4), (InputError, CapabilityError), "steps"),
        (ExtendJob(parent="video_none", frames=8), UnknownJobError, "video_none"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    queues: Queues, asked: Asked, error: type[Exception], words: str, tmp_path: Path
):
    queue = queues(max_frames=1000)
    with pytest.raises(error, match=words) as refused:
        queue.add(asked)
    assert str(tmp_path) not in queue.said(refused.value)
    assert queue.list() == []


def test_a_full_queue_and_a_full_disk_take_nothing(queues: Queues):
    queue = queues(max_queue=2)
    first = queue.add(ASKED)
    queue.add(ASKED)
    with pytest.raises(QuotaError, match="the queue is full, with 2 waiting"):
        queue.add(ASKED)
    queue.pause(first.id)
    queue.add(ASKED)
    with pytest.raises(QuotaError, match="the queue is full"):
        queue.resume(first.id)
    full = queues(keep_free=10**18)
    with pytest.raises(QuotaError, match="the disk is full"):
        full.add(ASKED)
    assert full.claim("anna") is None


def test_a_disk_that_fills_stops_what_runs_and_lets_it_go_on_later(queue: Queue, monkeypatch: pytest.MonkeyPatch):
    queue.quota = Quota(keep_free=100)
    free = [1000]
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, free[0]))
    queue.add(ASKED)
    job = held(queue)
    assert queue.progress(job, 8) is not None and queue.halted() is None
    free[0] = 50
    assert queue.progress(job, 16) is None
    assert "the disk is full" in (queue.halted() or "")
    queue.let_go(job)
    assert queue.claim("anna") is None
    free[0] = 1000
    assert held(queue).frames_done == 16


def test_jobs_are_made_in_their_order_which_can_be_changed(queue: Queue):
    a, b, c, d = (queue.add(ASKED).id for _ in range(4))
    assert queue.move(d, 1).position == 1 and queue.move(a, 99).position == 4
    assert ids(queue.waiting()) == [d, b, c, a]
    assert held(queue).id == d
    assert ids(queue.waiting()) == [b, c, a]
    with pytest.raises(InputError, match="is in progress, and cannot be moved"):
        queue.move(d, 1)
    with pytest.raises(InputError, match="no place 0"):
        queue.move(b, 0)


def test_lists_turn_their_pages(queue: Queue):
    a, b, c = (queue.add(ASKED).id for _ in range(3))
    assert ids(queue.list()) == [c, b, a]
    assert ids(queue.list(limit=2)) == [c, b] and ids(queue.list(after=b)) == [a]
    assert ids(queue.list(order="asc", after=a, limit=1)) == [b]
    queue.cancel(b)
    assert ids(queue.list(statuses=["queued"])) == [c, a]
    assert queue.counts()["queued"] == 2 and queue.counts()["cancelled"] == 1
    with pytest.raises(UnknownJobError):
        queue.list(after="video_0")


def test_a_worker_tells_how_far_it_is_and_finishes(queue: Queue):
    queue.add(ASKED)
    job = held(queue)
    assert job.status == "in_progress" and job.started_at and job.worker == "anna" and job.position is None
    now = queue.progress(job, 8, "", 4.0, 123)
    assert now is not None and (now.frames_done, now.rate, now.memory, now.seconds_left) == (8, 4.0, 123, 14.0)
    assert now.first_at is not None
    queue.finish(job, 64)
    done = queue.get(job.id)
    assert (done.status, done.frames_done, done.worker) == ("completed", 64, None) and done.completed_at
    assert queue.progress(job, 9) is None, "it is not the worker's any more"


def test_one_job_is_given_to_one_worker(queues: Queues):
    for _ in range(20):
        queues().add(ASKED)
    got: list[str] = []

    def take(name: str) -> None:
        queue = queues()
        while job := queue.claim(name):
            got.append(job.id)

    threads = [threading.Thread(target=take, args=[f"worker {number}"]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 20 == len(set(got))


def test_a_paused_job_stays_with_its_worker_until_that_lets_go(queue: Queue):
    queue.add(ASKED)
    job = held(queue)
    assert queue.pause(job.id).status == "paused"
    assert queue.resume(job.id).status == "queued"
    assert queue.claim("bert") is None, "anna has not stopped yet"
    assert queue.progress(job, 8) is None
    queue.let_go(job)
    assert held(queue).id == job.id


def test_what_was_cancelled_or_failed_can_be_resumed_and_what_is_complete_cannot(queue: Queue):
    queue.add(ASKED)
    job = held(queue)
    queue.fail(job, Problem(code="output_error", message="no"))
    assert queue.get(job.id).error == Problem(code="output_error", message="no")
    assert queue.resume(job.id).error is None
    job = held(queue)
    queue.cancel(job.id)
    queue.finish(job, 64)
    assert queue.get(job.id).status == "cancelled"
    queue.resume(job.id)
    queue.finish(held(queue), 64)
    for change in (queue.resume, queue.pause, queue.cancel):
        with pytest.raises(InputError, match="is completed, and cannot be"):
            change(job.id)


def test_the_job_of_a_dead_worker_waits_again_and_fails_when_too_many_die_at_it(queues: Queues):
    queue = queues(max_deaths=3)
    queue.add(ASKED)
    for frames in (0, 8, 8):
        job = held(queue)
        queue.progress(job, frames)
        queue.give_back("anna", died=True)
    assert queue.get(job.id).status == "queued", "8 frames were new"
    held(queue)
    queue.give_back("anna", died=True)
    failed = queue.get(job.id)
    assert failed.status == "failed" and failed.error and failed.error.code == "worker_died"
    assert queue.resume(job.id).status == "queued"


def test_a_new_server_takes_everything_back(queues: Queues):
    queue = queues()
    for _ in range(4):
        queue.add(ASKED)
    running, paused, deleted = held(queue), held(queue), held(queue)
    queue.pause(paused.id)
    queue.path(deleted).touch()
    queue.delete(deleted.id)
    assert queue.path(deleted).exists(), "its worker writes there"
    after = queues()
    after.give_back()
    assert not queue.path(deleted).exists()
    assert [job.status for job in after.list(order="asc")] == ["queued", "paused", "queued"]
    assert ids(after.waiting())[0] == running.id
    assert queue.progress(running, 8) is None


def test_deleting_removes_the_files_and_uploads_that_nobody_else_needs(queue: Queue):
    from PIL import Image

    Image.new("RGB", (16, 16)).save(queue.uploads / "a.png")
    asked = VideoJob(prompts=CAR, model="toy", sampler="chunked", frames=32, steps=2, input_reference="a.png")
    first, second = queue.add(asked), queue.add(asked)
    for job in (first, second):
        state_folder(queue.path(job)).mkdir()
        for file in (queue.path(job), state_folder(queue.path(job)) / "state.json", queue.folder / f"{job.id}.jpg"):
            file.touch()
    queue.delete(first.id)
    assert not list(queue.folder.glob(f"{first.id}*")) and (queue.uploads / "a.png").exists()
    queue.delete(second.id)
    assert not list(queue.folder.glob("video_*")) and not list(queue.uploads.iterdir())
    with pytest.raises(UnknownJobError):
        queue.delete(first.id)


def test_a_video_that_goes_on_from_another_waits_for_it_and_keeps_it(queue: Queue):
    parent = queue.add(ASKED)
    longer = queue.add(ExtendJob(parent=parent.id, frames=32, prompts=BOAT))
    other = queue.add(RedoJob(parent=longer.id, frame=48, prompts=CAR, seed=5))
    assert longer.prompts == PromptTimeline((0, 64), ("a red car", "a blue boat")) and longer.frames_total == 96
    assert other.prompts == CAR and (other.seed, other.frames_total, other.from_frame) == (5, 96, 48)
    with pytest.raises(InputError, match="frames 0 to 63"):
        queue.add(RedoJob(parent=parent.id, frame=64, seed=5))
    queue.move(other.id, 1)
    job = held(queue)
    assert job.id == parent.id and queue.claim("bert") is None
    with pytest.raises(InputError, match=f"{longer.id} goes on from"):
        queue.delete(parent.id)
    assert ids(queue.children(parent.id)) == [longer.id]
    queue.pause(parent.id)
    queue.let_go(job)
    assert queue.claim("bert") is None, "it may be resumed, and then be longer"
    queue.resume(parent.id)
    queue.finish(held(queue), 64)
    job = held(queue)
    assert job.id == longer.id
    queue.finish(job, 96)
    assert held(queue).id == other.id


def test_prompts_are_told_anew_of_all_or_from_a_frame_on(queue: Queue):
    job = queue.add(ASKED)
    told = queue.tell(job.id, BOAT, 32)
    assert told.prompts == PromptTimeline((0, 32), ("a red car", "a blue boat")) and told.told == 1
    assert queue.tell(job.id, BOAT).prompts == BOAT
    still = queue.add(replace(ASKED, sampler="video-infinity", steps=4, settings={}))
    with pytest.raises(InputError, match="makes all frames together"):
        queue.tell(still.id, BOAT)
    sprites = queue.add(replace(ASKED, model="sprites", prompts=PromptTimeline.constant("a red car drives right")))
    queue.finish(held(queue), 64)
    with pytest.raises(InputError, match="is completed, and cannot be told"):
        queue.tell(job.id, BOAT)
    assert queue.get(sprites.id).told == 0


def test_a_folder_that_cannot_hold_a_queue_is_refused(tmp_path: Path, queue: Queue):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="it is a file, but a folder is meant"):
        Queue(tmp_path / "file")
    queue._rows.base.execute("PRAGMA user_version = 7")
    with pytest.raises(OutputError, match="another version"):
        Queue(tmp_path)


def scramble(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[4096:] = bytes(byte ^ 0x55 for byte in data[4096:])
    file.write_bytes(data)


def say(statement: str) -> Callable[[Path], None]:
    def said(file: Path) -> None:
        with sqlite3.connect(file) as base:
            base.execute(statement)

    return said


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b"no database at all, whatever it is called"),
        lambda file: file.write_bytes(file.read_bytes()[:-4096]),
        scramble,
        say("ALTER TABLE jobs DROP COLUMN doing"),
        say("UPDATE jobs SET asked = '{'"),
        say("UPDATE jobs SET asked = x'ff00'"),
        say("UPDATE jobs SET prompts = '[1]'"),
        say("UPDATE jobs SET verb = 'none'"),
        say("UPDATE jobs SET error = '{}'"),
        say("UPDATE jobs SET status = 'none'"),
    ],
)
def test_a_damaged_queue_is_said_in_one_line_whoever_reads_it(
    queue: Queue, tmp_path: Path, damage: Callable[[Path], None]
):
    queue.add(ASKED)
    (file,) = tmp_path.glob("queue.sqlite")
    queue._rows.base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    queue._rows.base.close()
    damage(file)
    with pytest.raises(OutputError, match=r"queue.sqlite is damaged.* move queue.sqlite away.*\Z"):
        Queue(tmp_path)
    # A worker, and a server whose file is damaged on the way, do not read all of it at once.
    with pytest.raises(OutputError, match="queue.sqlite is damaged"):
        reading = Queue(tmp_path, careful=False)
        reading.counts(), reading.list(), reading.claim("anna"), reading.give_back()


def test_a_folder_in_the_place_of_the_queue_is_said(tmp_path: Path):
    (tmp_path / "queue.sqlite").mkdir()
    with pytest.raises(OutputError, match="cannot open queue.sqlite: .*; see what lies there"):
        Queue(tmp_path)


def test_requests_name_the_models_that_are_offered():
    computing = Computing(models=("/models/wan-1.3b",))
    assert computing.model("wan-1.3b") == "/models/wan-1.3b" and computing.model("toy") == "toy"
    with pytest.raises(InputError, match="no model"):
        computing.model("/models/wan-1.3b")


def test_a_gpu_has_one_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus(Computing(), tmp_path) == [None] and gpus(Computing(workers=3), tmp_path) == [None] * 3
    for name in ("0000:01", "0000:02"):
        (tmp_path / name).mkdir()
    assert gpus(Computing(), tmp_path) == ["0", "1"] and gpus(Computing(device="cpu"), tmp_path) == [None]
    assert gpus(Computing(workers=3), tmp_path) == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert gpus(Computing(), tmp_path) == ["4", "7"]


def test_settings_that_take_nothing_or_let_anybody_in_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("LONGTAKE_TOKEN", raising=False)
    with pytest.raises(InputError, match="--max-queue 0"):
        Quota(max_queue=0)
    with pytest.raises(InputError, match="--port 70000"):
        Access(port=70000)
    with pytest.raises(InputError, match="--token"):
        Access(host="0.0.0.0")
    monkeypatch.setenv("LONGTAKE_TOKEN", "open sesame")
    assert Access(host="0.0.0.0").secret == "open sesame"
