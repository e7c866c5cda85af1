"""Tasks done by processes of this machine, each of which has the model; one that dies is replaced."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import ClassVar

import torch
from torch import Tensor

from longtake.errors import InputError, LongtakeError, RanksError
from longtake.tasks.child import Child
from longtake.tasks.task import Executor, Task, Work

Given = tuple[Sequence[Task], Tensor | None]
# A task that ends its worker so often will end the next one too.
MAX_DEATHS = 3


@dataclass
class _Worker:
    number: int
    process: Child
    at: Given | None = None
    """What it is at."""


class Processes(Executor):
    """So many processes, which start at once and are told the tasks one by one."""

    child: ClassVar[type[Child]] = Child
    """How a process begins."""

    def __init__(self, start: Callable[[int], Work], workers: int) -> None:
        """`start` makes the work of the process of a number; it travels to the process, so it must be picklable.

        Raises InputError for fewer workers than one.
        """
        if workers < 1:
            raise InputError(f"{workers} workers cannot do anything; give 1 or more")
        self.slots = workers
        self._start = start
        self._waiting: list[Given] = []
        self._deaths: dict[str, int] = {}
        self._workers = [self._started(number) for number in range(workers)]

    def submit(self, tasks: Sequence[Task], given: Tensor | None) -> None:
        """Hand a batch to an idle process, or keep it until one is."""
        self._waiting.append((tasks, given))
        self._hand_out()

    def next_finished(self) -> tuple[Sequence[Task], Tensor]:
        """Wait for results. A process that has died is replaced, and its tasks done again.

        Raises LongtakeError with the words of the worker's own, RanksError for a task during which one worker after the
        other dies.
        """
        while True:
            self._hand_out()
            ready = wait([worker.process.connection for worker in self._workers])
            worker = next(worker for worker in self._workers if worker.process.connection in ready)
            try:
                result, problem, is_fault = worker.process.connection.recv()
            except (EOFError, OSError):
                self._replace(worker)
                continue
            if problem:
                raise (RuntimeError if is_fault else LongtakeError)(problem)
            assert worker.at is not None
            tasks, worker.at = worker.at[0], None
            return tasks, torch.from_numpy(result)

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.process.end()
        self._workers = []

    def _hand_out(self) -> None:
        for worker in self._workers:
            while worker.at is None and self._waiting:
                worker.at = self._waiting.pop(0)
                tasks, given = worker.at
                try:
                    worker.process.connection.send((tasks, None if given is None else given.numpy()))
                except OSError:
                    worker = self._replace(worker)

    def _replace(self, worker: _Worker) -> _Worker:
        """Start another process in place of a dead one, whose tasks come first."""
        status = worker.process.end()
        if worker.at is not None:
            self._waiting.insert(0, worker.at)
        key = worker.at[0][0].key if worker.at else ""
        self._deaths[key] = self._deaths.get(key, 0) + 1
        if self._deaths[key] >= MAX_DEATHS:
            raise RanksError(
                f"{MAX_DEATHS} worker processes have ended one after the other at the same task (exit status "
                f"{status}), perhaps for lack of memory; give the same command with fewer workers"
            )
        self._workers[worker.number] = self._started(worker.number)
        return self._workers[worker.number]

    def _started(self, number: int) -> _Worker:
        return _Worker(number=number, process=self.child(_serve, self._start, number, self.slots))


def num_units(device: str) -> int:
    """Return how many GPUs, or processors, this process may use."""
    if ":" in device:
        return 1
    if device == "cuda":
        return torch.cuda.device_count()
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _serve(connection: Connection, start: Callable[[int], Work], number: int, workers: int) -> None:
    """Do tasks until the other side is gone."""
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    try:
        work = start(number)
        while True:
            tasks, given = connection.recv()
            result = work(tasks, None if given is None else torch.from_numpy(given))
            connection.send((result.numpy(), "", False))
    except (EOFError, ConnectionError):
        return
    except LongtakeError as error:
        connection.send((None, str(error), False))
    except Exception:
        connection.send((None, f"a worker failed: {traceback.format_exc()}", True))
