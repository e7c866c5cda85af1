"""A small tree of the toy model, for tests of whoever does its tasks."""

from functools import partial
from typing import Any

import numpy as np
import torch

from longtake.apps.generate.settings import numbered_model
from longtake.models.toy import Toy
from longtake.models.toy_spec import TOY
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan, start_work
from longtake.samplers.nuwa_xl.plan import NuwaXl
from longtake.tasks.stores import MemoryStore
from longtake.tasks.task import Executor

REQUEST = Request(prompts=PromptTimeline((0, 20), ("a", "b")), frames=50, seed=3, steps=1)
SAMPLER = NuwaXl()
PLAN = SAMPLER.plan(REQUEST, TOY)
START = partial(start_work, partial(numbered_model, "toy", "cpu", torch.float32), REQUEST, SAMPLER, None)


def whole() -> np.ndarray:
    """The frames that any executor has to come to."""
    return np.concatenate([chunk.frames for chunk in run_plan(Toy(), PLAN, seeded_noise(3), ALONE, None)])


def chunks(executor: Executor) -> Any:
    """The chunks that come with an executor."""
    return run_plan(Toy(), PLAN, seeded_noise(3), ALONE, executor=executor)


def task() -> Any:
    """The first task of the tree."""
    from longtake.samplers.nuwa_xl.loop import Tree

    return Tree.of(Toy(), PLAN).first(MemoryStore())
