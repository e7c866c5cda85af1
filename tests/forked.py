"""Doing something in a process of its own that dies in the middle, without the seconds that a new interpreter takes."""

import gc
import os
import signal
import sys
import time
from collections.abc import Callable

import torch

SECONDS = 60.0
ATTEMPTS = 3


def in_child(action: Callable[[], object], seconds: float = SECONDS) -> int:
    """Do something in a forked process; return the signal that ended it, 0 when it ended in another way.

    A process that has threads may leave a lock behind in its fork, which then waits for ever, whatever it does. Such a
    child is ended, by the signal at which pytest prints where it was, and another one takes its place. It hardly ever
    happens; what hangs by itself hangs every time, and fails the test.
    """
    for _ in range(ATTEMPTS):
        ended = _attempt(action, seconds)
        if ended != signal.SIGABRT:
            return ended
        print("a forked child hung and was ended", file=sys.stderr)
    raise AssertionError(f"the child hung {ATTEMPTS} times; see where above")


def _attempt(action: Callable[[], object], seconds: float) -> int:
    child = os.fork()
    if child == 0:
        try:
            # Threads stay with the parent: neither may the pool be used, nor what holds a thread be collected.
            torch.set_num_threads(1)
            gc.freeze()
            action()
        finally:
            # Nothing of the test runner may run in the child, whatever has happened.
            os._exit(0)
    deadline = time.monotonic() + seconds
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGABRT)
        time.sleep(0.002)
    return os.WTERMSIG(ended[1]) if os.WIFSIGNALED(ended[1]) else 0
