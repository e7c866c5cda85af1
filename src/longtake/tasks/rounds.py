"""Tasks shared out over the processes of a job, round by round."""

from collections.abc import Callable

import torch
from torch import Tensor

from longtake.ranks.world import Group
from longtake.tasks.task import Executor, Task, Work


class Rounds(Executor):
    """Each process does one task of a round; then all have all results.

    Every process makes the same calls, decides by the same rules and so holds the same results, without asking anyone.
    Calls of a network take equally long, so nobody waits for long at the end of a round.
    """

    def __init__(self, work: Work, group: Group, device: torch.device, blank: Callable[[Task], Tensor]) -> None:
        """`group`: who shares. `device`: where messages are sent from. `blank`: a tensor like the
        result of a task; those of one round are alike."""
        self.slots = group.size
        self._work, self._group, self._device, self._blank = work, group, device, blank
        self._waiting: list[tuple[Task, Tensor | None]] = []
        self._finished: list[tuple[Task, Tensor]] = []

    def submit(self, task: Task, given: Tensor | None) -> None:
        """Take a task."""
        self._waiting.append((task, given))

    def next_finished(self) -> tuple[Task, Tensor]:
        """Return the next result of a round, in the order of tasks."""
        if not self._finished:
            self._finished = self._round()
        return self._finished.pop(0)

    def close(self) -> None:
        """Do nothing: the processes are the job's own."""

    def _round(self) -> list[tuple[Task, Tensor]]:
        tasks, self._waiting = self._waiting[: self._group.size], self._waiting[self._group.size :]
        if self._group.rank < len(tasks):
            result = self._work(*tasks[self._group.rank])
        else:
            result = self._blank(tasks[0][0])
        gathered = self._group.gather(result.to(self._device)).cpu()
        return [(task, gathered[place]) for place, (task, _) in enumerate(tasks)]
