"""Several processes of one thread each on this machine, that run a function of a bench as the ranks of a world."""

import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist

from longtake.ranks.rendezvous import world_over
from longtake.tasks.child import Child


def on_ranks(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return what `function(world, *arguments)` returns on each of `size` new processes, joined by gloo over loopback.

    `function` must be module-level. Raises RuntimeError where a process fails.
    """
    os.environ["GLOO_SOCKET_IFNAME"], os.environ["OMP_NUM_THREADS"] = "lo", "1"
    answers = []
    with tempfile.TemporaryDirectory() as folder:
        processes = [Child(_join, rank, size, f"{folder}/store", function, arguments) for rank in range(size)]
        try:
            for process in processes:
                answers.append(process.connection.recv())
        except (EOFError, OSError):
            raise RuntimeError("a process of the bench has failed; its error stands above") from None
        finally:
            for process in processes:
                process.end(None if len(answers) == size else 0.0)
    return answers


def _join(
    answer: Connection, rank: int, size: int, path: str, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(path, size)
    store.set_timeout(timedelta(seconds=120))
    with world_over(store, rank, size, torch.device("cpu"), 1) as world:
        answer.send(function(world, *arguments))
