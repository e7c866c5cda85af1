"""Tasks shared out over the processes of a job, round by round; a process that is alone does one batch after the
other."""

from collections.abc import Sequence

import torch
from torch import Tensor

from longtake.ranks.world import ALONE, Group
from longtake.tasks.task import Executor, Task, Work


class Rounds(Executor):
    """Each process does one batch of a round; then all have all results.

    Every process makes the same calls, decides by the same rules and so holds the same results, without asking anyone.
    Calls of a network take equally long, so nobody waits for long at the end of a round.
    """

    def __init__(self, work: Work, group: Group = ALONE.clip, device: torch.device | str = "cpu") -> None:
        """`group`: who shares. `device`: where messages are sent from. All results are alike."""
        self.slots = group.size
        self._work, self._group, self._device = work, group, device
        self._waiting: list[tuple[Sequence[Task], Tensor | None]] = []
        self._finished: list[tuple[Sequence[Task], Tensor]] = []

    def submit(self, tasks: Sequence[Task], given: Tensor | None) -> None:
        """Take a batch."""
        self._waiting.append((tasks, given))

    def next_finished(self) -> tuple[Sequence[Task], Tensor]:
        """Return the next results of a round, in the order of tasks."""
        if not self._finished:
            self._finished = self._round()
        return self._finished.pop(0)

    def close(self) -> None:
        """Do nothing: the processes are the job's own."""

    def _round(self) -> list[tuple[Sequence[Task], Tensor]]:
        batches, self._waiting = self._waiting[: self._group.size], self._waiting[self._group.size :]
        results = self._work(*batches[self._group.rank]) if self._group.rank < len(batches) else None
        sizes = [*(len(tasks) for tasks, _ in batches), *[0] * (self._group.size - len(batches))]
        if min(sizes) < max(sizes):
            results = self._padded(results, max(sizes))
        assert results is not None
        gathered = self._group.gather(results.to(self._device)).cpu()
        return [(tasks, gathered[place, : len(tasks)]) for place, (tasks, _) in enumerate(batches)]

    def _padded(self, results: Tensor | None, size: int) -> Tensor:
        """Return results with nothing after them: whoever has fewer tasks than others sends as much as they do."""
        told = None if results is None else [list(results.shape[1:]), str(results.dtype)]
        shape, kind = self._group.say(told)[0]
        padded = torch.zeros((size, *shape), dtype=getattr(torch, kind.removeprefix("torch.")))
        if results is not None:
            padded[: len(results)] = results
        return padded
