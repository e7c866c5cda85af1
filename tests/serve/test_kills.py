"""A queue whose server and workers are killed at any moment, while jobs come, wait, turn and go on: nothing is lost,
and every video is that of a run by itself.

`pytest -m slow tests/serve/test_kills.py -s` prints what was killed, and what was asked for meanwhile.
"""

import random
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from longtake._generate import generate
from longtake.errors import InputError
from longtake.models import load_model
from longtake.models.hub.precision import choose_hardware
from longtake.report import order_content, read_order, report_path
from longtake.request import PromptTimeline
from longtake.serve.job import ExtendJob, Job, RedoJob, VideoJob, order_of
from longtake.serve.queue import Queue
from longtake.serve.settings import Computing

from .server import QUOTA, Server, all_done, kill, wait_for

pytestmark = pytest.mark.slow

SEEDS, KILLS = 5, 10
"""So many times from nothing, and kills each."""
CAR = PromptTimeline.constant("a red car")
BOAT = PromptTimeline.constant("a blue boat")
FRAMES = 320
ASKED = VideoJob(prompts=CAR, model="toy", frames=FRAMES, keep_states=2_000_000)
JOBS = [
    replace(ASKED, settings={"partitions": 2, "eta": 0.5}, seed=1),
    replace(ASKED, sampler="chunked", settings={"overlap": 2, "eta": 0.5}, steps=6, seed=2),
    replace(ASKED, sampler="autoregressive", steps=6, seed=3),
    replace(ASKED, settings={"partitions": 2, "decode_batch": 7}, seed=4, segment=32),
]


@pytest.fixture(autouse=True)
def one_thread():
    """As the workers have it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "served", QUOTA)


def stir(queue: Queue, rng: random.Random) -> str:
    """Ask for something that people ask for while videos are made; return what it was."""
    job = rng.choice(queue.list(limit=100))
    kind = rng.choice(["pause", "cancel", "resume", "move", "tell", "nothing"])
    try:
        match kind:
            case "move":
                queue.move(job.id, rng.randrange(1, 5))
            case "tell":
                queue.tell(job.id, rng.choice([CAR, BOAT]), rng.randrange(1, FRAMES))
            case "pause" | "cancel" | "resume":
                getattr(queue, kind)(job.id)
    except InputError:
        return "refused"
    return kind


def wake(queue: Queue) -> None:
    """Let everything go on that was stopped, or that had nothing to go on from."""
    for job in queue.list(limit=100):
        if job.status in ("paused", "cancelled", "failed"):
            queue.resume(job.id)


def under_way(queue: Queue) -> bool:
    """Return whether there is a worker to kill that is at a video."""
    return any(job.doing != "starting" for job in queue.list(statuses=["in_progress"]))


def keep_going(queue: Queue, asked: list[str], rng: random.Random) -> list[str]:
    """Where nothing is made, nor will be unless somebody asks for it, ask: for what was stopped to go on, for another
    take once all is complete. Return what was asked for."""
    if all_done(queue):
        parent = rng.choice(asked[:4])
        asked.append(queue.add(RedoJob(parent=parent, frame=rng.randrange(FRAMES), seed=rng.randrange(99))).id)
        return ["another take"]
    left = queue.list(limit=100, statuses=["in_progress", "queued"])
    if all(job.parent is not None and queue.get(job.parent).status == "paused" for job in left):
        wake(queue)
        return ["all had stopped"]
    return []


def by_itself(queue: Queue, job: Job, path: Path) -> bytes:
    """Return the bytes that the report of a video makes from nothing, in this process. Where nothing was changed on the
    way, the report is that of what was asked for."""
    order = read_order(str(report_path(queue.path(job))))
    if isinstance(job.asked, VideoJob) and not job.told:
        asked = order_of(job.asked, queue.path(job), queue.uploads, Computing())
        for part in ("request", "sampler", "output"):
            assert order_content(asked)[part] == order_content(order)[part]
    hardware = choose_hardware(order.device, order.dtype)
    model = load_model(order.model, hardware.device, hardware.dtype)
    quiet: Any = lambda *told: None  # noqa: E731
    generate(model, order.request, order.sampler, replace(order.output, path=path), progress=quiet)
    return path.read_bytes()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_fifty_kills_lose_nothing(queue: Queue, tmp_path: Path, seed: int):
    rng, seen = random.Random(seed), Counter[str]()
    asked = [queue.add(job).id for job in JOBS]
    asked.append(queue.add(ExtendJob(parent=asked[0], frames=64, prompts=BOAT)).id)
    asked.append(queue.add(RedoJob(parent=asked[1], frame=FRAMES // 2, prompts=BOAT, seed=9)).id)
    server = Server(queue.folder, workers=2)
    for _ in range(KILLS):
        # From before they have started until deep in a video.
        if rng.random() < 0.6:
            wait_for(lambda: under_way(queue) or seen.update(keep_going(queue, asked, rng)))
        time.sleep(rng.uniform(0, 1.5))
        if rng.random() < 0.7:
            kill(rng.choice(server.workers()))
            seen["worker killed"] += 1
        else:
            server.kill()
            seen["server killed"] += 1
            seen[stir(queue, rng)] += 1
            server = Server(queue.folder, workers=2)
        seen[stir(queue, rng)] += 1
        if rng.random() < 0.3:
            wake(queue)
    print(f"\n{dict(seen)}")
    while not all_done(queue):
        wake(queue)
        time.sleep(0.5)
    assert server.close() == 0 and server.said() == ""
    assert {job.id for job in queue.list(limit=100)} == set(asked)
    for job in queue.list(limit=100):
        made = queue.path(job).read_bytes()
        assert made == by_itself(queue, job, tmp_path / f"{job.id}.mp4"), job


def test_ten_jobs_at_once_take_no_more_memory_than_two(queue: Queue):
    server = Server(queue.folder, workers=2)
    for seed in range(2):
        queue.add(replace(JOBS[0], frames=400, seed=seed))
    wait_for(lambda: all_done(queue))
    peaks = {process: resident(process) for process in server.workers()}
    for seed in range(10):
        queue.add(replace(JOBS[seed % len(JOBS)], frames=400, seed=seed))
    wait_for(lambda: all_done(queue))
    after = {process: resident(process) for process in server.workers()}
    print(f"\n{peaks} {after}")
    assert peaks.keys() == after.keys(), "no worker has died"
    # What Python and torch hold back, and the other samplers' code; a video of 400 frames would be 1.2 MB more, each.
    assert all(after[process] < 1.1 * peaks[process] for process in peaks)
    assert server.close() == 0
    jobs = queue.list(limit=100)
    assert len(jobs) == 12 and len({repr(job.asked) for job in jobs}) == 11, "one was asked for twice"
    assert len({queue.path(job).read_bytes() for job in jobs}) == 11


def test_servers_that_are_killed_while_their_workers_start_say_nothing(queue: Queue):
    rng = random.Random(1)
    for _ in range(20):
        server = Server(queue.folder, workers=3)
        # The first is there; the others are not, nor does any know yet what to do.
        while not server.children():
            pass
        time.sleep(rng.choice([0, 0.02, 0.2]))
        server.kill()
        time.sleep(0.5)
        assert server.said() == ""


def resident(process: int) -> int:
    """Return the bytes of memory that a process has."""
    return psutil.Process(process).memory_info().rss


def test_a_worker_that_is_killed_alone_is_replaced_and_a_killed_server_takes_its_workers_along(queue: Queue):
    queue.add(replace(ASKED, frames=100_000))
    server = Server(queue.folder)
    (first,) = server.workers()
    wait_for(lambda: queue.list()[0].frames_done > 0)
    kill(first)
    wait_for(lambda: server.workers() not in ([first], []))
    (second,) = server.workers()
    wait_for(lambda: queue.list()[0].status == "in_progress")
    server.kill()
    wait_for(lambda: not psutil.pid_exists(second) or psutil.Process(second).status() == psutil.STATUS_ZOMBIE, 30)
