"""The whole of NUWA-XL on a tiny network: the tree calls it as it was meant to be called, in whatever order."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from longtake.models import load_model
from longtake.models.nuwa_xl.load import save_index, save_unet
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.nuwa_xl.plan import NuwaXl

from .tiny import awake, mtd


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """A tiny NUWA-XL of 5 frames a window."""
    root = tmp_path_factory.mktemp("tree")
    shutil.copytree(folder, root / "tiny")
    save_unet(root / "nuwa" / "unet", awake(mtd(strides=(16, 4, 1))), torch.float32)
    save_index(root / "nuwa", {"guidance": 2.0, "shared": "../tiny"})
    return load_model(str(root / "nuwa"))


@pytest.mark.parametrize("settings", [{}, {"depth": 1}, {"fit": "stretch"}])
def test_a_tree_and_its_parts(model, settings):
    sampler = NuwaXl(**settings)
    plan = sampler.plan(Request(prompts=PromptTimeline((0, 9), ("abc", "xyz")), frames=18, steps=2), model.spec)
    assert not plan.warnings
    chunks = list(run_plan(model, plan, seeded_noise(0), ALONE, None))
    whole = np.concatenate([chunk.frames for chunk in chunks])
    assert whole.shape == (18, 16, 16, 3) and whole.std() > 0
    part = sampler.part(plan, range(9, 14))
    made = np.concatenate([chunk.frames for chunk in run_plan(model, part, seeded_noise(0), ALONE, None)])
    assert np.array_equal(made, whole[9:14])
    state = {name: tensor.clone() for name, tensor in chunks[2].state().items()}
    start = chunks[2].start + len(chunks[2].frames)
    rest = np.concatenate([chunk.frames for chunk in run_plan(model, plan, seeded_noise(0), ALONE, state)])
    assert np.array_equal(rest, whole[start:])
