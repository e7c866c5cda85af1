"""The order of tasks, on trees of nothing but numbers: who waits for whom, what comes first, how long it all takes."""

import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lab.measure.nuwa_xl import Simulated
from longtake.models.toy import Toy
from longtake.models.toy_spec import TOY
from longtake.request import PromptTimeline, Request
from longtake.samplers.nuwa_xl.loop import Tree
from longtake.samplers.nuwa_xl.plan import NuwaXl
from longtake.tasks.rounds import Rounds
from longtake.tasks.stores import FolderStore, MemoryStore
from longtake.tasks.task import Store, run_tasks, task_key

RESULT = torch.zeros(1)


class Nothing(Store):
    """Keeps no result, of which none is needed where nothing is computed."""

    def __contains__(self, key):
        return False

    def get(self, key):
        return RESULT

    def put(self, key, result):
        pass

    def drop(self, key):
        pass

    def state(self):
        return {}

    def restore(self, state):
        pass


def tree(frames, length=16, **settings):
    spec = replace(TOY, num_frames=length, latent_shape=(3, length, 8, 8))
    plan = NuwaXl(**settings).plan(Request(prompts=PromptTimeline.constant("a"), frames=frames), spec)
    return Tree.of(Toy(), plan)


def simulated(frames, workers, store=None):
    """The finished tasks with the times at which they were, for calls of a second."""
    calls, executor = tree(frames), Simulated(workers, 1.0, RESULT)
    store = store or Nothing()
    for task in run_tasks(calls.first(store), calls.children, lambda tasks: None, executor, store):
        yield task, executor.now


@pytest.mark.parametrize(
    ("frames", "workers", "calls"),
    [(1024, 1, 75), (1024, 2, 39), (1024, 4, 21), (1024, 225, 3), (3376, 1, 241), (3376, 4, 62), (3376, 225, 3)],
)
def test_workers_share_the_calls(frames, workers, calls):
    """Against the best that any order can do, which waits for a whole level before the next."""
    last = max(time for _, time in simulated(frames, workers))
    assert last <= 1.15 * calls


@pytest.mark.parametrize("workers", [1, 4])
def test_the_first_clip_is_there_after_a_call_a_level(workers):
    times = {task.name: time for task, time in simulated(3376, workers)}
    assert times[3, 0] == 3
    if workers == 1:
        leaves = [name for name in times if name[0] == 3]
        assert leaves == sorted(leaves)


@pytest.mark.parametrize("workers", [1, 3])
def test_every_task_is_done_once_and_after_its_parent(workers):
    done, names = set(), Counter()
    for task, _ in simulated(226, workers):
        assert task.parent is None or task.parent in done
        done.add(task.key)
        names[task.name] += 1
    assert set(names.values()) == {1} and len(done) == len(names) == 16


def test_a_million_frames_take_no_memory():
    tracemalloc.start()
    try:
        count = sum(1 for _ in zip(simulated(1_000_000, 8), range(600), strict=False))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 600
    assert peak < 2e6


@pytest.mark.slow
def test_a_million_frames_are_planned_to_the_end():
    assert sum(1 for _ in simulated(1_000_000, 8)) == 71_432


def test_results_that_are_there_are_not_made_again(tmp_path: Path):
    store = FolderStore(tmp_path / "nodes")
    first = [task.key for task, _ in simulated(226, 1, store)]
    times = [time for _, time in simulated(226, 1, store)]
    assert len(times) == len(first) and set(times) == {0.0}
    (tmp_path / "nodes" / f"{first[-1]}.safetensors").write_bytes(b"torn")
    later = FolderStore(tmp_path / "nodes")
    assert max(time for _, time in simulated(226, 1, later)) == 1.0


def test_at_most_as_many_tasks_run_as_there_are_slots():
    calls, store = tree(226), MemoryStore()
    running, most = set(), 0

    def given(tasks):
        nonlocal most
        running.update(task.name for task in tasks)
        most = max(most, len(running))

    executor = Simulated(3, 1.0, RESULT)
    for task in run_tasks(calls.first(store), calls.children, given, executor, store):
        running.discard(task.name)
    assert most == 3


def test_what_work_raises_comes_out():
    def work(tasks, given):
        raise ValueError("no")

    calls, store = tree(226), MemoryStore()
    with Rounds(work) as executor, pytest.raises(ValueError, match="no"):
        next(run_tasks(calls.first(store), calls.children, lambda tasks: None, executor, store))


def test_keys_tell_everything_apart():
    assert task_key("a", [1, 2]) == task_key("a", (1, 2)) != task_key("a", [12])
