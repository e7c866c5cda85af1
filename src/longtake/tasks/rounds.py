"""Tasks shared out over the processes of a job, round by round; a process that is alone does one after the other."""

import torch
from torch import Tensor

from longtake.ranks.world import ALONE, Group
from longtake.tasks.task import Executor, Task, Work


class Rounds(Executor):
    """Each process does one task of a round; then all have all results.

    Every process makes the same calls, decides by the same rules and so holds the same results, without asking anyone.
    Calls of a network take equally long, so nobody waits for long at the end of a round.
    """

    def __init__(self, work: Work, group: Group = ALONE.clip, device: torch.device | str = "cpu") -> None:
        """`group`: who shares. `device`: where messages are sent from. The results of one round are alike."""
        self.slots = group.size
        self._work, self._group, self._device = work, group, device
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
        result = self._work(*tasks[self._group.rank]) if self._group.rank < len(tasks) else None
        if len(tasks) < self._group.size:
            # Whoever has no task sends as much as the others.
            told = None if result is None else [list(result.shape), str(result.dtype)]
            shape, kind = self._group.say(told)[0]
            result = torch.zeros(shape, dtype=getattr(torch, kind.removeprefix("torch."))) if result is None else result
        assert result is not None
        gathered = self._group.gather(result.to(self._device)).cpu()
        return [(task, gathered[place]) for place, (task, _) in enumerate(tasks)]
