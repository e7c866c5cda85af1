"""A server in a process of its own, as `longtake serve` starts one, but without HTTP, which takes no part in a run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from longtake.serve.queue import Queue
from longtake.serve.settings import Quota

QUOTA = Quota(keep_free=0, max_deaths=1000)
_CODE = """
import sys, threading
from pathlib import Path
from longtake.serve.queue import Queue
from longtake.serve.settings import Computing, Quota
from longtake.serve.supervisor import Supervisor

if __name__ == "__main__":
    folder, workers = Path(sys.argv[1]), int(sys.argv[2])
    queue = Queue(folder, Quota(keep_free=0, max_deaths=1000), Computing(device="cpu", workers=workers))
    with Supervisor(queue) as supervisor:
        while sys.stdin.readline():
            print(*supervisor.processes, flush=True)
"""


class Server:
    """The server of a folder; closing its standard input ends it in good order."""

    def __init__(self, folder: Path, workers: int = 1) -> None:
        script = folder / "server.py"
        script.write_text(_CODE)
        self._said = folder / "server.log"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache")}
        with self._said.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(script), str(folder), str(workers)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                text=True,
            )

    def workers(self) -> list[int]:
        """Return the ids of the worker processes."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return [int(word) for word in self._process.stdout.readline().split()]

    def children(self) -> list[int]:
        """Return the ids of the processes that it has started, whether it can answer or not."""
        return [child.pid for child in psutil.Process(self._process.pid).children()]

    def said(self) -> str:
        """Return what it and its workers have said, and those of the same folder before it."""
        return self._said.read_text()

    def kill(self) -> None:
        """End it as a power cut does; its workers end with it."""
        self._process.kill()
        self._process.wait()

    def close(self) -> int:
        """End it in good order; return its exit status."""
        assert self._process.stdin
        self._process.stdin.close()
        return self._process.wait(60)


def kill(process: int) -> None:
    """End a process, if it is there still."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        pass


def wait_for(what: Callable[[], bool], seconds: float = 600.0) -> None:
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.05)


def all_done(queue: Queue) -> bool:
    """Whether every job is complete; one that has failed, and not for want of the video it goes on from, ends the
    test."""
    jobs = queue.list(limit=1000)
    failed = [job for job in jobs if job.error and not (job.parent and job.error.code == "input_error")]
    assert not failed, failed[0].error
    return all(job.status == "completed" for job in jobs)
