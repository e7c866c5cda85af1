"""Worker processes whose calls sleep, so many that the libraries of each would take more memory than there is."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe, get_context
from typing import Any

import torch
from torch import Tensor

from longtake.tasks.child import Child
from longtake.tasks.processes import Processes
from longtake.tasks.task import Task


@dataclass(frozen=True)
class Asleep:
    """Work as it is for a process whose device does it: it takes time, and none of this machine's processor."""

    seconds: float
    """Of a call."""
    shape: tuple[int, ...]
    """Of a result."""

    def __call__(self, tasks: Sequence[Task], given: Tensor | None) -> Tensor:
        """Return nothing but zeros, after a call each."""
        time.sleep(self.seconds * len(tasks))
        return torch.zeros(len(tasks), *self.shape)


def started(work: Asleep, number: int) -> Asleep:
    """Return the work of a process."""
    return work


class Forked(Child):
    """A process that shares the memory of the libraries with all others of this kind: they are forked from one that has
    read them and done nothing else."""

    def __init__(self, run: Callable[..., object], *arguments: Any) -> None:
        """Start `run(connection, *arguments)`."""
        context = get_context("forkserver")
        context.set_forkserver_preload(["lab.__main__", __name__])
        self.connection, theirs = Pipe()
        self._forked = context.Process(target=run, args=(theirs, *arguments))
        self._forked.start()
        theirs.close()

    def end(self, seconds: float | None = 0.0) -> int:
        """Wait so long for its end (None: until it comes), then kill it; return its exit status."""
        self._forked.join(seconds)
        self._forked.kill()
        self.connection.close()
        self._forked.join()
        return self._forked.exitcode or 0


class ForkedProcesses(Processes):
    """Workers as those of the package in all but how they begin."""

    child = Forked
