"""Work as tasks that wait for each other, and the one place that decides which of them is next.

A task is a pure function of what its key is a digest of, so that it may be done by anyone, again, or not at all where
its result is there already. Executors only do tasks; what is ready, and what comes first, is decided in `run_tasks`.
"""

import hashlib
import heapq
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, order=True)
class Task:
    """A piece of work; the smallest in order is done first."""

    order: tuple[int, ...]
    """By what it is preferred to others that are ready."""
    name: tuple[int, ...]
    """What is to be done, in the words of whoever does it."""
    key: str
    """Digest of all that decides the result."""
    parent: str | None
    """Key of the task whose result this one is given a part of; None where it waits for nothing."""
    kind: tuple[int, ...] = ()
    """Tasks of the same kind are given as much and may be done together."""


@runtime_checkable
class Work(Protocol):
    """What does tasks of one kind."""

    def __call__(self, tasks: Sequence[Task], given: "Tensor | None") -> "Tensor":
        """Return the results, (tasks, ...), on the CPU, from the parts of their parents' results that the tasks are
        given."""
        ...


def task_key(*parts: object) -> str:
    """Return the digest of values that JSON can write."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Store(ABC):
    """Where results are kept, by key."""

    @abstractmethod
    def __contains__(self, key: str) -> bool:
        """Return whether the result is here."""

    @abstractmethod
    def get(self, key: str) -> "Tensor":
        """Return a result that is here."""

    @abstractmethod
    def put(self, key: str, result: "Tensor") -> None:
        """Keep a result."""

    @abstractmethod
    def drop(self, key: str) -> None:
        """Take note that this run needs the result no longer."""

    @abstractmethod
    def state(self) -> "Mapping[str, Tensor]":
        """Return the results that would be lost with the process."""

    @abstractmethod
    def restore(self, state: "Mapping[str, Tensor]") -> None:
        """Take back what `state` returned."""


class Executor(ABC):
    """Does tasks. Used in `with`, at the end of which its workers are gone."""

    slots: int
    """How many workers it has, each of which does the tasks of one batch at a time."""

    @abstractmethod
    def submit(self, tasks: Sequence[Task], given: "Tensor | None") -> None:
        """Take a batch of tasks of one kind, whose turn may come later."""

    @abstractmethod
    def next_finished(self) -> "tuple[Sequence[Task], Tensor]":
        """Wait for a batch and return it with its results. Raises what the work raised."""

    @abstractmethod
    def close(self) -> None:
        """Let the workers go; what they are at is lost."""

    def __enter__(self) -> Self:
        """Return the executor; it is ready already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


def run_tasks(
    first: Task,
    children: Callable[[Task], Iterable[Task]],
    given: "Callable[[Sequence[Task]], Tensor | None]",
    executor: Executor,
    store: Store,
    most: int = 1,
) -> Iterator[Task]:
    """Yield a tree's tasks as they are finished: `first`, then those that its result releases, and so on.

    `children` are the tasks that wait for one; `given` is what a batch is given once the parents are in the store. A
    batch holds `most` tasks of a kind at most, fewer where other workers would have none; at most `executor.slots`
    batches are under way. A task whose result is in the store is finished as it is.
    """
    ready, running = [first], 0

    def finished(task: Task) -> Task:
        for child in children(task):
            heapq.heappush(ready, child)
        return task

    while ready or running:
        while ready and running < executor.slots:
            task = heapq.heappop(ready)
            if task.key in store:
                yield finished(task)
                continue
            batch, size = [task], min(most, -(-(len(ready) + 1) // (executor.slots - running)))
            while ready and len(batch) < size and ready[0].kind == task.kind and ready[0].key not in store:
                batch.append(heapq.heappop(ready))
            executor.submit(batch, given(batch))
            running += 1
        if running:
            batch, results = executor.next_finished()
            running -= 1
            for task, result in zip(batch, results, strict=True):
                store.put(task.key, result)
                yield finished(task)
