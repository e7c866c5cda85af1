"""NUWA-XL on many processes, counted, against a simulation of its tasks."""

from dataclasses import replace

import pytest
import torch

from lab.measure.nuwa_xl import Simulated
from longtake.apps.plan.forecast import Link, Machines, forecast
from longtake.models.toy import Toy
from longtake.models.toy_spec import TOY
from longtake.request import PromptTimeline, Request
from longtake.samplers.nuwa_xl.loop import Tree
from longtake.samplers.nuwa_xl.plan import NuwaXl, tree_work
from longtake.tasks.stores import MemoryStore
from longtake.tasks.task import run_tasks

SPEC = replace(TOY, num_frames=16, latent_shape=(3, 16, 8, 8))


def planned(frames, **settings):
    return NuwaXl(**settings).plan(
        Request(prompts=PromptTimeline.constant("a"), frames=frames, steps=10, guidance=4.0), SPEC
    )


@pytest.mark.parametrize("ranks", [1, 2, 8, 225])
@pytest.mark.parametrize(("frames", "window_batch"), [(16, 1), (226, 1), (1024, 1), (226, 5), (1024, 16)])
def test_rounds_are_those_of_the_tasks(frames, window_batch, ranks):
    plan = planned(frames, window_batch=window_batch)
    executor, store = Simulated(ranks, 1.0, torch.zeros(1)), MemoryStore()
    tree = Tree.of(Toy(), plan)
    for _ in run_tasks(tree.first(store), tree.children, lambda tasks: None, executor, store, plan.window_batch):
        pass
    assert 0 <= tree_work(plan, ranks, 4).steps - executor.now <= 1


def test_the_time_of_one_process_is_its_evaluations():
    machines = Machines(link=Link(latency=1.0, bandwidth=1.0, source="none"), forward_seconds=0.5, width=4)
    plan = planned(226)
    assert forecast(NuwaXl(), plan, 1, machines).seconds == pytest.approx(16 * 10 * 2 * 0.5) == plan.forwards * 0.5
    batched = planned(226, window_batch=4)
    assert tree_work(batched, 1, 4).steps == 1 + 4
    assert forecast(NuwaXl(), batched, 1, machines).seconds == pytest.approx(plan.forwards * 0.5)


def test_models_are_warned_of_distances_that_they_have_not_learned():
    request = planned(3376).request
    assert "are 225, 15 apart" in " ".join(NuwaXl().plan(request, SPEC).warnings).replace("\n", " ")
    assert not NuwaXl().plan(request, replace(SPEC, strides=(1, 15, 225))).warnings
