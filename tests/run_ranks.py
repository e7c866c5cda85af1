"""Worker processes that stand in for the ranks of a job: started once, they run a test's function on some of them.

One process imports what takes long, and the workers fork from it before it does anything else.

The function is module-level, in any test module, and takes (world, *args); the tests get it by the fixture `ranks`.
"""

import importlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

NUM_WORKERS = 4
SECONDS = 60.0


class Ranks:
    """A pool of workers, which start when they are first needed."""

    def __init__(self) -> None:
        self._workers: list[tuple[int, Connection]] = []

    def run(self, size: int, function: Callable[..., Any], *args: Any, cfg: int = 1) -> list[Any]:
        """Return what `function(world, *args)` returns on each of `size` ranks, `cfg` of which share guidance.

        Errors on ranks are an AssertionError here, with the tracebacks; who does not answer in a minute is killed.
        """
        if not self._workers:
            self._start()
        workers = self._workers[:size]
        where = (function.__module__, sys.modules[function.__module__].__file__, function.__qualname__)
        with tempfile.TemporaryDirectory() as folder:
            for rank, (_, connection) in enumerate(workers):
                connection.send((where, (rank, size, cfg, f"{folder}/store")))
                connection.send(pickle.dumps(args))
            answers = self._answers(len(workers))
        if any(failed for failed, _ in answers):
            raise AssertionError("\n".join(f"rank {rank}: {text}" for rank, (bad, text) in enumerate(answers) if bad))
        return [answer for _, answer in answers]

    def _answers(self, size: int) -> list[tuple[bool, Any]]:
        """Return what each rank answers: whether it failed, and its result or its traceback."""
        answers: list[tuple[bool, Any]] = [(True, f"no answer within {SECONDS:g} s")] * size
        waiting = {connection: rank for rank, (_, connection) in enumerate(self._workers[:size])}
        deadline = time.monotonic() + SECONDS
        ended = False
        while waiting and (ready := wait(list(waiting), max(0.0, deadline - time.monotonic()))):
            for connection in ready:
                assert isinstance(connection, Connection)
                rank = waiting.pop(connection)
                try:
                    answers[rank] = pickle.loads(connection.recv())
                except (EOFError, OSError):
                    answers[rank] = (True, "the process has ended")
                    ended = True
                if answers[rank][0]:
                    # The others follow at once, or never.
                    deadline = min(deadline, time.monotonic() + 5)
        if waiting or ended:
            self.close()
        return answers

    def _start(self) -> None:
        # One thread each, and no network but the loopback.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        pipes = [Pipe() for _ in range(NUM_WORKERS)]
        places = [theirs.fileno() for _, theirs in pipes]
        self._parent = subprocess.Popen([sys.executable, __file__, *map(str, places)], env=environment, pass_fds=places)
        for _, theirs in pipes:
            theirs.close()
        for ours, _ in pipes:
            assert ours.poll(4 * SECONDS)
            self._workers.append((ours.recv(), ours))

    def close(self) -> None:
        """End the workers."""
        for process, connection in self._workers:
            connection.close()
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if self._workers:
            self._parent.wait()
        self._workers = []


def fork_workers(places: Sequence[int]) -> None:
    """Be a worker for each of these descriptors; the process itself only waits for their end."""
    import longtake.models.modelscope.model
    import longtake.ranks.rendezvous  # noqa: F401

    for place in places:
        if not os.fork():
            for other in set(places) - {place}:
                os.close(other)
            return work(Connection(place))
    for place in places:
        os.close(place)
    for _ in places:
        os.wait()


def work(connection: Connection) -> None:
    """Be a worker until the pool closes the connection."""
    connection.send(os.getpid())
    while True:
        try:
            where, place = connection.recv()
        except EOFError:
            return
        try:
            function = imported(*where)
            answer = (False, joined(function, place, pickle.loads(connection.recv())))
        except Exception:
            answer = (True, traceback.format_exc())
        connection.send(pickle.dumps(answer))


def imported(name: str, path: str, function: str) -> Callable[..., Any]:
    """Return a function of a test module, which pytest has imported by its path below the root."""
    root = str(Path(path).parents[name.count(".")])
    if root not in sys.path:
        sys.path.append(root)
    return getattr(importlib.import_module(name), function)


def joined(function: Callable[..., Any], place: tuple[int, int, int, str], args: tuple[Any, ...]) -> Any:
    """Run a function as one rank of a new world."""
    import torch
    import torch.distributed as dist

    from longtake.ranks.rendezvous import world_over

    rank, size, cfg, path = place
    store = dist.FileStore(path, size)
    store.set_timeout(timedelta(seconds=SECONDS))
    with world_over(store, rank, size, torch.device("cpu"), cfg) as world:
        return function(world, *args)


if __name__ == "__main__":
    fork_workers([int(place) for place in sys.argv[1:]])
