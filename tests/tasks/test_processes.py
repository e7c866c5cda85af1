"""Processes that do the tasks of a tree, and that die."""

import os
from functools import partial

import numpy as np
import psutil
import pytest

from longtake.apps.generate.settings import numbered_model
from longtake.errors import InputError, LongtakeError, RanksError
from longtake.samplers import start_work
from longtake.tasks.processes import Processes

from .tree_cases import REQUEST, SAMPLER, START, chunks, task, whole

UNKNOWN = partial(start_work, partial(numbered_model, "tay", "cpu", None), REQUEST, SAMPLER, None)


def workers() -> list[psutil.Process]:
    """Return the processes that this one has started and that run."""
    children = psutil.Process().children()
    return [child for child in children if "longtake.tasks.child" in " ".join(child.cmdline())]


def test_a_killed_worker_is_replaced_and_changes_nothing():
    with Processes(START, 2) as executor:
        # It has its first task already, and dies on the way to it.
        made = chunks(executor)
        executor.submit([task()], None)
        workers()[0].kill()
        executor.next_finished()
        frames = []
        for place, chunk in enumerate(made):
            frames.append(chunk.frames)
            if place == 2:
                workers()[-1].kill()
        # One that died idle is missed once there is something for both to do.
        for _ in range(2):
            executor.submit([task()], None)
        for _ in range(2):
            executor.next_finished()
        assert len(workers()) == 2
    assert np.array_equal(np.concatenate(frames), whole())
    assert not workers()


@pytest.mark.slow
def test_a_task_that_kills_every_worker_ends_the_run():
    with Processes(os._exit, 1) as executor:
        executor.submit([task()], None)
        with pytest.raises(RanksError, match="3 worker processes have ended"):
            executor.next_finished()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "kind", "message"),
    [
        (UNKNOWN, LongtakeError, "toy"),
        (float, RuntimeError, "not callable"),
    ],
)
def test_what_a_worker_raises_comes_out(start, kind, message):
    with Processes(start, 1) as executor:
        executor.submit([task()], None)
        with pytest.raises(kind, match=message):
            executor.next_finished()


def test_there_must_be_a_worker():
    with pytest.raises(InputError, match="0 workers"):
        Processes(START, 0)
