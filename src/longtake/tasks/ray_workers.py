"""Tasks done by actors on a Ray cluster, each of which has the model; one that dies is replaced.

What is next is decided in our own process: Ray has no priorities, and an actor does its tasks in the order in which it
was given them, so each is given one at a time.
"""

import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from longtake.errors import InputError, LongtakeError, MissingExtraError, RanksError
from longtake.tasks.task import Executor, Task, Work

Given = tuple[Sequence[Task], Tensor | None]
# A task that ends its worker so often will end the next one too.
MAX_DEATHS = 3
_LOCAL = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


class RayWorkers(Executor):
    """Actors on a cluster that runs already, or on one of this machine's own that ends with this object."""

    def __init__(
        self, start: Callable[[int], Work], workers: int | None, address: str | None, *, gpus: bool = False
    ) -> None:
        """`start` makes the work of the actor of a number; it travels to the actor, so it must be picklable.

        `workers` None is one for every GPU (`gpus`) or processor of the cluster. `address` is the cluster's
        ("10.0.0.1:6379" or "ray://head:10001"); None starts one here, which listens on 127.0.0.1 alone. Raises
        MissingExtraError without Ray, InputError where it was imported too early for that, and for a cluster that is
        not there or has no room.
        """
        if address is None:
            # Read when Ray is imported. Without it Ray listens on all networks, to whoever can reach this machine.
            if sys.modules.get("ray") and _LOCAL not in os.environ:
                raise InputError(
                    f"Ray was imported before it was told to listen on 127.0.0.1 alone; set {_LOCAL}=0 before that, "
                    "or give the address of a cluster"
                )
            os.environ.setdefault(_LOCAL, "0")
        try:
            import ray  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise MissingExtraError("ray", "ray") from None
        self._ray = ray
        self._join(workers, address)
        unit = "GPU" if gpus else "CPU"
        room = int(ray.cluster_resources().get(unit, 0))
        self.slots = room if workers is None else workers
        if not 1 <= self.slots <= room:
            self.close()
            raise InputError(f"{self.slots} workers need a {unit} each, and the Ray cluster has {room}; give --workers")
        # Ray would start a dead actor again by itself, but refuses its tasks until that is done.
        self._kind: Any = ray.remote(_Actor).options(
            num_cpus=0 if gpus else 1, num_gpus=1 if gpus else 0, max_restarts=0, max_task_retries=0
        )
        self._start = start
        self._idle = [(number, self._kind.remote(start, number)) for number in range(self.slots)]
        self._waiting: list[Given] = []
        self._running: dict[Any, tuple[int, Any, Given]] = {}
        self._deaths: dict[str, int] = {}

    def submit(self, tasks: Sequence[Task], given: Tensor | None) -> None:
        """Hand a batch to an idle actor, or keep it until one is."""
        self._waiting.append((tasks, given))
        self._hand_out()

    def next_finished(self) -> tuple[Sequence[Task], Tensor]:
        """Wait for results. The tasks of an actor that has died are done again by what takes its place.

        Raises LongtakeError with the words of the actor's own, RanksError for a task during which one actor after the
        other dies.
        """
        while True:
            self._hand_out()
            (reference, *_), _ = self._ray.wait(list(self._running), num_returns=1)
            number, actor, (tasks, given) = self._running.pop(reference)
            try:
                result, problem = self._ray.get(reference)
            except self._ray.exceptions.RayActorError as error:
                self._mourn(tasks[0], error)
                self._ray.kill(actor)
                self._idle.append((number, self._kind.remote(self._start, number)))
                self._waiting.insert(0, (tasks, given))
                continue
            self._idle.append((number, actor))
            if problem:
                raise LongtakeError(problem)
            # Ray's arrays cannot be written to, which torch does not know of.
            return tasks, torch.from_numpy(result.copy())

    def close(self) -> None:
        """Let the actors go, and the cluster with them if it was started here."""
        self._ray.shutdown()

    def _join(self, workers: int | None, address: str | None) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address is None:
            self._ray.init(address="local", num_cpus=workers, include_dashboard=False, **quiet)
            return
        try:
            _check_listening(address)
            self._ray.init(address=address, **quiet)
        except (OSError, ValueError) as error:
            raise InputError(
                f"there is no Ray cluster at {address} for us: {error}; 'ray start --head' starts one; "
                "RAY_AUTH_TOKEN must be the same here and there"
            ) from None

    def _mourn(self, task: Task, error: Exception) -> None:
        self._deaths[task.key] = self._deaths.get(task.key, 0) + 1
        if self._deaths[task.key] >= MAX_DEATHS:
            raise RanksError(
                f"{MAX_DEATHS} Ray workers have ended one after the other at the same task, perhaps for lack of "
                "memory; give the same command with fewer workers"
            ) from error

    def _hand_out(self) -> None:
        while self._idle and self._waiting:
            (number, actor), (tasks, given) = self._idle.pop(), self._waiting.pop(0)
            reference = actor.do.remote(tasks, None if given is None else given.numpy())
            self._running[reference] = (number, actor, (tasks, given))


def _check_listening(address: str) -> None:
    """Raise OSError where nobody listens, ValueError for no address; Ray itself would wait for minutes."""
    host, port = address.removeprefix("ray://").rsplit(":", 1)
    socket.create_connection((host, int(port)), timeout=10).close()


class _Actor:
    """A worker of the cluster."""

    def __init__(self, start: Callable[[int], Work], number: int) -> None:
        self._start, self._number = start, number
        self._work: Work | None = None

    def do(self, tasks: Sequence[Task], given: Any) -> tuple[Any, str]:
        """Return the results as numbers, and what the user did wrong; the model is loaded for the first task."""
        try:
            self._work = self._work or self._start(self._number)
            # A copy: what comes from Ray cannot be written to.
            return self._work(tasks, None if given is None else torch.from_numpy(given.copy())).numpy(), ""
        except LongtakeError as error:
            return None, str(error)
