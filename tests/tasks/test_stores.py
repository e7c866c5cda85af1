"""Where results are kept: what is put comes back, here, from files, and on all processes of a job."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

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


@pytest.mark.parametrize("damage", ["flipped", "not finite", "another type", "another's", "cut", "empty", "old"])
def test_a_result_that_was_damaged_counts_as_none(tmp_path: Path, damage: str):
    FolderStore(tmp_path).put("a", torch.arange(30.0))
    FolderStore(tmp_path).put("b", torch.ones(30))
    file = tmp_path / "a.safetensors"
    content = bytearray(file.read_bytes())
    assert "a" in FolderStore(tmp_path)
    content[-20] ^= 1
    changed = {
        "flipped": bytes(content),
        "not finite": save({"result": torch.full((30,), float("nan"))}, {"sha256": "0" * 64}),
        "another type": save({"result": torch.arange(30)}, {"sha256": "0" * 64}),
        "another's": (tmp_path / "b.safetensors").read_bytes(),
        "cut": bytes(content[:-8]),
        "empty": b"",
        "old": save({"result": torch.arange(30.0)}),
    }
    file.write_bytes(changed[damage])
    store = FolderStore(tmp_path)
    assert "a" not in store and "b" in store
    store.put("a", torch.arange(30.0))
    assert "a" in FolderStore(tmp_path) and FolderStore(tmp_path).get("a").tolist() == list(range(30))


def test_a_result_that_was_dropped_is_looked_at_again(tmp_path: Path):
    """A run of any length remembers of its results only those that it still needs."""
    store = FolderStore(tmp_path)
    store.put("a", torch.arange(30.0))
    store.drop("a")
    (tmp_path / "a.safetensors").write_bytes(b"")
    assert "a" not in store


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


def test_a_damaged_result_is_made_again(tmp_path: Path):
    path, prompts = tmp_path / "a.mkv", PromptTimeline((0, 20), ("a", "b"))
    made_on(ALONE, path, prompts)
    right = path.read_bytes()
    assert made_on(ALONE, path, prompts) == 0
    node = sorted((tmp_path / "a.mkv.state" / "nodes").iterdir())[0]
    content = bytearray(node.read_bytes())
    content[-3] ^= 64
    node.write_bytes(content)
    assert made_on(ALONE, path, prompts) >= 1
    assert path.read_bytes() == right
