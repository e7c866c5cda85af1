"""Tasks done here, one after the other."""

from torch import Tensor

from longtake.tasks.task import Executor, Task, Work


class Inline(Executor):
    """This process does the tasks, each when its result is asked for."""

    slots = 1

    def __init__(self, work: Work) -> None:
        self._work = work
        self._waiting: list[tuple[Task, Tensor | None]] = []

    def submit(self, task: Task, given: Tensor | None) -> None:
        """Take a task."""
        self._waiting.append((task, given))

    def next_finished(self) -> tuple[Task, Tensor]:
        """Do the task that came first."""
        task, given = self._waiting.pop(0)
        return task, self._work(task, given)

    def close(self) -> None:
        """Do nothing: there are no workers."""
