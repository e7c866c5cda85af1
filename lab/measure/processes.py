"""Several processes of one thread each on this machine, that run a function of a bench as the ranks of a world."""

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist

from longtake.ranks.rendezvous import world_over


def on_ranks(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return what `function(world, *arguments)` returns on each of `size` new processes, joined by gloo over loopback.

    `function` must be module-level. Raises RuntimeError where a process fails.
    """
    os.environ["GLOO_SOCKET_IFNAME"], os.environ["OMP_NUM_THREADS"] = "lo", "1"
    context, answers = multiprocessing.get_context("spawn"), []
    with tempfile.TemporaryDirectory() as folder:
        pipes = [context.Pipe(duplex=False) for _ in range(size)]
        processes = [
            context.Process(target=_join, args=(rank, size, f"{folder}/store", pipes[rank][1], function, arguments))
            for rank in range(size)
        ]
        for process, (_, answering) in zip(processes, pipes, strict=True):
            process.start()
            answering.close()
        try:
            for asked, _ in pipes:
                answers.append(asked.recv())
        except EOFError:
            raise RuntimeError("a process of the bench has failed; its error stands above") from None
        finally:
            for process in processes:
                if len(answers) < size:
                    process.kill()
                process.join()
    return answers


def _join(
    rank: int, size: int, path: str, answer: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(path, size)
    store.set_timeout(timedelta(seconds=120))
    with world_over(store, rank, size, torch.device("cpu"), 1) as world:
        answer.send(function(world, *arguments))
