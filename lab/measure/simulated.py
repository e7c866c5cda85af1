"""Tasks done in no time, by a clock that says how long so many workers would have taken."""

import heapq

from torch import Tensor

from longtake.tasks.task import Executor, Task


class Simulated(Executor):
    """Workers that all take `seconds` for a task, and give the same tensor for each."""

    def __init__(self, workers: int, seconds: float, result: Tensor) -> None:
        self.slots = workers
        self.now = 0.0
        """Seconds since the start, when the last task that was returned was finished."""
        self._seconds, self._result = seconds, result
        self._running: list[tuple[float, Task]] = []

    def submit(self, task: Task, given: Tensor | None) -> None:
        """Begin a task now; there are as many workers as slots."""
        heapq.heappush(self._running, (self.now + self._seconds, task))

    def next_finished(self) -> tuple[Task, Tensor]:
        """Return the task that is finished first, and move the clock to that time."""
        self.now, task = heapq.heappop(self._running)
        return task, self._result

    def close(self) -> None:
        """Do nothing: there are no workers."""
