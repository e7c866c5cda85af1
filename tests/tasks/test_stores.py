"""Where results are kept: what is put comes back, here, from files, and on all processes of a job."""

from pathlib import Path

import numpy as np
import torch

from longtake._generate import Output, generate
from longtake.models.toy import Toy
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers.nuwa_xl.plan import NuwaXl
from longtake.tasks.stores import FolderStore, MemoryStore
from longtake.video.read import read_frames


def test_stores_give_back_what_they_keep(tmp_path: Path):
    memory, folder = MemoryStore(), FolderStore(tmp_path / "nodes")
    for store in (memory, folder):
        assert "a" not in store
        store.put("a", torch.arange(3.0))
        assert "a" in store and store.get("a").tolist() == [0, 1, 2]
        store.drop("a")
    assert "a" not in memory and "a" in folder
    assert not folder.state()
    memory.put("b", torch.ones(2))
    folder.restore(memory.state())
    assert folder.get("b").tolist() == [1, 1]


def made_on(world, path, prompts):
    """Make the video on the processes of a world; return how many calls it took here."""
    torch.set_num_threads(1)
    model, calls = Toy(), []
    denoise = model.denoise
    model.denoise = lambda *args: calls.append(1) or denoise(*args)
    request = Request(prompts=prompts, frames=60, seed=4, steps=1)
    generate(model, request, NuwaXl(), Output(path=path, overwrite=True), world)
    return len(calls)


def test_processes_of_a_job_use_what_is_there(tmp_path, ranks):
    path, new = tmp_path / "b.mkv", PromptTimeline((0, 20, 43, 49), ("a", "b", "c", "b"))
    made_on(ALONE, path, PromptTimeline((0, 20), ("a", "b")))
    before = set((tmp_path / "b.mkv.state" / "nodes").iterdir())
    assert sum(ranks.run(2, made_on, path, new)) == 1
    assert made_on(ALONE, tmp_path / "c.mkv", new) > 1
    told, fresh = (np.concatenate(list(read_frames(tmp_path / name))).astype(int) for name in ("b.mkv", "c.mkv"))
    assert np.abs(told - fresh).max() <= 1
    assert len(set((tmp_path / "b.mkv.state" / "nodes").iterdir()) - before) == 1
