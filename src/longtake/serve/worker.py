"""A worker: takes one job of a queue after the other, and makes its video as an ordinary run."""

import errno
import os
import signal
import sqlite3
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from longtake._generate import generate
from longtake.errors import CapabilityError, InputError, LongtakeError, OutputError
from longtake.machine import memory_now
from longtake.model import VideoModel
from longtake.models import model_spec
from longtake.models.hub.precision import Hardware, choose_hardware
from longtake.models.kept import KeptModel
from longtake.rates import remember_run
from longtake.report import Order, report_path, write_order
from longtake.request import PromptTimeline
from longtake.samplers.planning import checked_plan
from longtake.serve.foresee import steering_of
from longtake.serve.job import Job, Problem, VideoJob, code_of, order_of
from longtake.serve.queue import Queue, remove_video
from longtake.serve.settings import Computing, Quota
from longtake.steer.plan import Steering, plan_retelling
from longtake.steer.run import EditedError, Story, begin
from longtake.steer.video import find_video
from longtake.video.durable import Lock, failed_write
from longtake.video.files import state_folder
from longtake.video.record import read_record
from longtake.words import plain

IDLE_SECONDS = 0.05
TELL_SECONDS = 0.1
# A worker that was killed along with its server may take a moment to be gone.
_GONE_SECONDS = 10.0


class _StoppedError(BaseException):
    """A job is not wanted any more, or not now. Not an Exception, so that no handler of errors swallows it."""


class Worker:
    """Makes the jobs of a queue."""

    def __init__(self, queue: Queue, name: str) -> None:
        self.stopping = False
        """Whether it is to let go of its job at the next chunk, and take no other."""
        self._queue, self._name, self._holds = queue, name, False
        self._kept = KeptModel()

    def run(self) -> None:
        """Do jobs until it is stopping."""
        while not self.stopping:
            if not self.do_next():
                time.sleep(IDLE_SECONDS)

    def do_next(self) -> bool:
        """Make the next job, if there is one, or as much of it as is wanted; return whether there was one."""
        try:
            if self._holds:
                self._queue.give_back(self._name)
            job = self._queue.claim(self._name)
            self._holds = job is not None
            if job is not None:
                self._do(job)
            self._holds = False
        except OutputError as error:
            # The queue itself cannot be written; what was claimed goes on once it can.
            print(plain(f"{self._name}: {error}"), file=sys.stderr)
            time.sleep(1.0)
            return True
        return job is not None

    def model(self, order: Order) -> tuple[VideoModel, Hardware]:
        """Return the model of an order, the one that is loaded where it is that, and where it computes. Raises
        CheckpointError for other weights than the order names."""
        spec = model_spec(order.model, **order.loading.told)
        hardware = choose_hardware(order.device, order.dtype, spec.released)
        order.check_files()
        model = self._kept.get(order.model, hardware, order.loading)
        order.check_weights(model.digest)
        return model, hardware

    def _do(self, job: Job) -> None:
        queue = self._queue
        try:
            frames = _Run(queue, job, self).made()
        except _StoppedError:
            queue.let_go(job)
        except (LongtakeError, OSError) as error:
            if _is_full(error):
                queue.halt("the disk is full; free some space: the queue tries again every minute, and nothing is lost")
                queue.let_go(job)
            else:
                told = failed_write(error, queue.path(job), 0) if isinstance(error, OSError) else error
                queue.fail(job, Problem(code=code_of(told), message=queue.said(told)))
        except Exception as error:
            # It may say something of the request's.
            print("\n".join(map(plain, traceback.format_exc().splitlines())), file=sys.stderr)
            # What is wanting may be memory.
            self._kept.drop()
            what = plain(f"{type(error).__name__}: {queue.said(error)}")
            queue.fail(
                job, Problem(code="internal_error", message=f"a fault of the server, not of the request: {what}")
            )
        else:
            queue.finish(job, frames)


class _Run:
    """The run of a job, in this process."""

    def __init__(self, queue: Queue, job: Job, worker: Worker) -> None:
        self._queue, self._job, self._worker, self._path = queue, job, worker, queue.path(job)
        # As it is wanted now, and how often its prompts had been told when they were looked at last.
        self._wanted, self._told = job, 0
        self._story: Story | None = None
        self._begin, self._first, self._last = 0.0, 0, 0
        self._said_at, self._segment = 0.0, 1

    def made(self) -> int:
        """Make the video, continue it, or find it finished; return its frames."""
        job, path = self._job, self._path
        self._say(job.frames_done, "loading the model")
        _wait_until_free(path)
        order, steering, is_begun = self._planned()
        self._segment = order.output.segment
        model, hardware = self._worker.model(order)
        if not is_begun:
            plan = checked_plan(model.spec, order.request, order.sampler)
            order = Order.of(model, plan, order.output)
            # From here on the run can be found again, whenever it is killed.
            write_order(order, report_path(path))
        if steering:
            begin(steering)
        if not isinstance(job.asked, VideoJob):
            seeds = [order.request.seed, *(turn.seed for turn in order.request.turns)]
            self._queue.begin(job, order.request.prompts, seeds[-1], order.request.frames or job.frames_total)
        while True:
            plan = checked_plan(model.spec, order.request, order.sampler)
            self._story = Story(order, plan, self._told_anew) if job.can_turn else None
            self._begin = 0.0
            try:
                result = generate(model, order.request, order.sampler, order.output, progress=self._progress)
                remember_run(result, order.model, hardware)
                return result.frames
            except EditedError as edited:
                turn = _retold(path, edited.prompts)
            if turn:
                begin(turn)
                order = turn.order

    def _planned(self) -> tuple[Order, Steering | None, bool]:
        """Return what is to be made, what leads to it, and whether its run has begun before."""
        job, path = self._job, self._path
        record = read_record(path)
        if record is not None and record.mark:
            video = find_video(path)
            assert video is not None
            steering = _retold(path, job.prompts) if job.told else None
            return (steering.order if steering else video.order), steering, True
        # A kill before the first frame leaves what describes itself only in part.
        remove_video(path)
        if not isinstance(job.asked, VideoJob):
            steering = steering_of(job.asked, path.with_name(f"{job.asked.parent}.mp4"), path)
            return steering.order, steering, False
        asked = replace(job.asked, prompts=job.prompts)
        return order_of(asked, path, self._queue.uploads, self._queue.computing), None, False

    def _progress(self, frames: int, warnings: tuple[str, ...], doing: str) -> None:
        """Take what a `Progress` is told; raise where the run has to stop or turn."""
        if sys.exc_info()[0] is not None:
            # It has, for a reason of its own.
            return
        now, segment = time.monotonic(), self._segment
        if not self._begin:
            self._begin, self._first = now, frames
        if now - self._said_at >= TELL_SECONDS or frames // segment != self._last // segment or self._worker.stopping:
            self._say(frames, doing)
        self._last = frames
        if self._story:
            self._story.check(frames)

    def _say(self, frames: int, doing: str) -> None:
        self._said_at = now = time.monotonic()
        rate = (frames - self._first) / (now - self._begin) if self._begin and frames > self._first else 0.0
        wanted = self._queue.progress(self._job, frames, doing, rate, memory_now())
        if wanted is None or self._worker.stopping:
            raise _StoppedError
        self._wanted = wanted

    def _told_anew(self) -> PromptTimeline | None:
        told, self._told = self._told, self._wanted.told
        return None if told == self._told else self._wanted.prompts


def _retold(path: Path, prompts: PromptTimeline) -> Steering | None:
    """Return how a run, which rests, goes on with other prompts; None where it goes on as it is, since they change
    nothing or are none for its model."""
    with suppress(InputError, CapabilityError):
        return plan_retelling(path, prompts)


def _wait_until_free(path: Path) -> None:
    """Wait for a worker that was killed a moment ago. Raises OutputError where another process stays at the video."""
    until = time.monotonic() + _GONE_SECONDS
    while state_folder(path).is_dir():
        try:
            Lock(state_folder(path) / "lock", path).close()
            return
        except OutputError:
            if time.monotonic() > until:
                raise
        time.sleep(IDLE_SECONDS)


def _is_full(error: BaseException) -> bool:
    """Return whether there was no space, for the run or for the queue."""
    causes = [error, error.__cause__]
    full = (errno.ENOSPC, errno.EDQUOT)
    return any(isinstance(cause, OSError) and cause.errno in full for cause in causes) or any(
        isinstance(cause, sqlite3.Error) and cause.sqlite_errorcode == sqlite3.SQLITE_FULL for cause in causes
    )


def work(alive: Connection, folder: Path, quota: Quota, computing: Computing, name: str, gpu: str | None) -> None:
    """Be a worker process, until SIGTERM or the end of the server, which ends the connection `alive`; `gpu` names the
    one that it may see."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    worker = Worker(Queue(folder, quota, computing, careful=False), name)

    def stop(*_: object) -> None:
        worker.stopping = True

    signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    worker.run()


def _end_with(server: Connection) -> None:
    """End this process when the server has ended; as after any kill, nothing is lost."""
    with suppress(EOFError, OSError):
        server.recv()
    os._exit(1)
