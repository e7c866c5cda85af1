"""Keeps the workers of a queue alive: one that dies is replaced, and its job waits again."""

from typing import Self

from longtake.serve.queue import Queue


class Supervisor:
    """The worker processes of a queue; use it in `with`. One process may supervise a folder at a time."""

    def __init__(self, queue: Queue) -> None:
        """Raises OutputError where another server has the folder."""
        self.queue = queue

    def __enter__(self) -> Self:
        """Start the workers, and a thread that watches them."""
        raise NotImplementedError

    def __exit__(self, *_: object) -> None:
        """Ask the workers to stop in good order, and wait for them; their jobs go on when the next server starts."""
        raise NotImplementedError

    @property
    def alive(self) -> int:
        """Return how many workers run."""
        raise NotImplementedError
