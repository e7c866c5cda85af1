"""Keeps the workers of a queue alive: one that dies is replaced, and its job waits again. Free of torch."""

import os
import secrets
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Self

from longtake.errors import OutputError
from longtake.serve.queue import Queue
from longtake.serve.settings import Computing
from longtake.serve.worker import work
from longtake.tasks.child import Child
from longtake.video.durable import Lock
from longtake.words import plain

_LOOK_SECONDS = 0.5
# One that dies at once would start again and again.
_LEAST_SECONDS = 1.0
# For the chunk that a worker is at.
_STOP_SECONDS = 20.0
_GPUS = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class _Worker:
    name: str
    number: int
    process: Child
    since: float


class Supervisor:
    """The worker processes of a queue; use it in `with`. One process supervises a folder at a time."""

    def __init__(self, queue: Queue) -> None:
        """Raises OutputError where another server has the folder."""
        self._queue = queue
        self._lock = Lock(queue.folder / "serve.lock", queue.folder, "another folder")
        self._gpus = gpus(queue.computing)
        self._workers: list[_Worker] = []
        self._ending = threading.Event()
        self._watch = threading.Thread(target=self._watched, name="supervisor", daemon=True)

    def __enter__(self) -> Self:
        """Start the workers, and a thread that watches them."""
        # What a killed server has left; workers of its own end with it.
        self._queue.give_back()
        self._workers = [self._started(number) for number in range(len(self._gpus))]
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ask the workers to stop in good order, and wait for them; their jobs go on when the next server starts."""
        self._ending.set()
        self._watch.join()
        for worker in self._workers:
            worker.process.terminate()
        until = time.monotonic() + _STOP_SECONDS
        for worker in self._workers:
            worker.process.end(max(0.0, until - time.monotonic()))
        self._queue.give_back()
        self._lock.close()

    @property
    def alive(self) -> int:
        """Return how many workers run."""
        return sum(worker.process.is_alive for worker in self._workers)

    @property
    def processes(self) -> list[int]:
        """Return the ids of the worker processes."""
        return [worker.process.id for worker in self._workers]

    def _watched(self) -> None:
        while not self._ending.is_set():
            wait([worker.process.connection for worker in self._workers], timeout=_LOOK_SECONDS)
            for place, worker in enumerate(self._workers):
                if not worker.process.is_alive and not self._ending.is_set():
                    self._replace(place, worker)

    def _replace(self, place: int, worker: _Worker) -> None:
        """Start another process in place of a dead one, once its job waits again."""
        self._ending.wait(max(0.0, worker.since + _LEAST_SECONDS - time.monotonic()))
        if self._ending.is_set():
            return
        try:
            self._queue.give_back(worker.name, died=True)
            self._workers[place] = self._started(worker.number)
        except (OutputError, OSError) as error:
            # For want of disk or memory; later there may be some.
            print(plain(f"{worker.name} cannot be replaced: {error}"), file=sys.stderr)
            self._ending.wait(_LEAST_SECONDS)
            return
        worker.process.end()

    def _started(self, number: int) -> _Worker:
        queue, name = self._queue, f"worker-{number}-{secrets.token_hex(4)}"
        process = Child(work, queue.folder, queue.quota, queue.computing, name, self._gpus[number])
        return _Worker(name, number, process, time.monotonic())


def gpus(computing: Computing, folder: Path = _GPUS) -> list[str | None]:
    """Return for every worker the GPU that it may see, as CUDA names it; None for all there are. `folder` is where
    Linux lists those of NVIDIA."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    listed = len(list(folder.iterdir())) if folder.is_dir() else 0
    there = [str(number) for number in range(listed)] if told is None else [name for name in told.split(",") if name]
    workers = computing.workers or max(1, len(there))
    if len(there) < 2 or computing.device not in ("auto", "cuda"):
        return [None] * (computing.workers or 1)
    return [there[number % len(there)] for number in range(workers)]
