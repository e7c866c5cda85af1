"""Videos that are made task by task: killed, looked into, told again with other words, made longer."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from longtake._generate import Output, generate
from longtake.errors import CapabilityError, InputError
from longtake.models.toy import Toy
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import plan_work
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.nuwa_xl.plan import NuwaXl
from longtake.tasks.rounds import Rounds
from longtake.tasks.stores import FolderStore
from longtake.video.read import read_frames

from .forked import in_child

STORY = PromptTimeline((0, 20), ("a", "b"))


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """A forked child cannot use the parent's pool of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    yield
    torch.set_num_threads(before)


def make(path: Path, frames=60, prompts=STORY, depth=None, executor=None, **output):
    request = Request(prompts=prompts, frames=frames, seed=4, steps=1)
    return generate(Toy(), request, NuwaXl(depth=depth), Output(path=path, **output), executor=executor)


def frames(path: Path) -> np.ndarray:
    return np.concatenate(list(read_frames(path)))


def nodes(path: Path) -> set[str]:
    return {file.name for file in (path.parent / f"{path.name}.state" / "nodes").iterdir()}


def killed_after(path: Path, count: int) -> int:
    """Make the video in a child that is killed before it keeps another result than the first so many."""
    put, kept = FolderStore.put, []

    def put_or_die(store, key, result):
        if len(kept) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        kept.append(key)
        put(store, key, result)

    def work() -> None:
        FolderStore.put = put_or_die
        make(path)

    return in_child(work)


def test_a_killed_driver_loses_one_call(tmp_path, monkeypatch):
    whole = tmp_path / "whole.mkv"
    result = make(whole)
    for count in (0, 1, 2, 7):
        path = tmp_path / f"{count}.mkv"
        assert killed_after(path, count) == signal.SIGKILL
        before = nodes(path) if count else set()
        assert len(before) == count
        made = []
        put = FolderStore.put
        with monkeypatch.context() as patch:
            patch.setattr(FolderStore, "put", lambda *args, put=put, made=made: made.append(args[1]) or put(*args))
            make(path)
        assert path.read_bytes() == whole.read_bytes()
        assert len(made) == (result.plan.tasks or 0) - count


def test_new_words_reuse_what_did_not_hear_them(tmp_path):
    path, fresh = tmp_path / "a.mkv", tmp_path / "b.mkv"
    make(path)
    before = nodes(path)
    new = PromptTimeline((0, 20, 43, 49), ("a", "b", "c", "b"))
    make(path, prompts=new, overwrite=True)
    make(fresh, prompts=new)
    assert np.array_equal(frames(path), frames(fresh))
    # Of all calls only the leaf with frames 42 to 49 sees the new words.
    assert len(nodes(path) - before) == 1 and before < nodes(path)


def test_a_part_is_the_slice_of_the_whole(tmp_path):
    make(tmp_path / "a.mkv")
    result = make(tmp_path / "b.mkv", part=(24, 40))
    assert result.frames == 16
    assert np.array_equal(frames(tmp_path / "b.mkv"), frames(tmp_path / "a.mkv")[24:40])
    assert len(nodes(tmp_path / "b.mkv")) == result.plan.tasks == 1 + 1 + 3


def test_a_row_of_trees_is_made_longer(tmp_path):
    path = tmp_path / "a.mkv"
    make(path, frames=50, depth=2)
    before, short = nodes(path), frames(path)
    result = make(path, frames=99, depth=2, overwrite=True)
    assert np.array_equal(frames(path)[:50], short)
    assert before < nodes(path) and len(nodes(path)) == result.plan.tasks == 2 * len(before)


def test_who_does_the_tasks_does_not_show(tmp_path):
    make(tmp_path / "a.mkv")
    request = Request(prompts=STORY, frames=60, seed=4, steps=1)
    work = plan_work(Toy(), NuwaXl().plan(request, Toy().spec), seeded_noise(4), ALONE)
    make(tmp_path / "b.mkv", executor=Rounds(work))
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()


def test_what_other_samplers_cannot_do(tmp_path):
    request = Request(prompts=STORY, frames=16, steps=1)
    with pytest.raises(CapabilityError, match="chunked cannot make a part"):
        generate(Toy(), request, Chunked(), Output(path=tmp_path / "a.mkv", part=(3, 4)))
    nobody = Rounds(lambda tasks, given: torch.zeros(len(tasks)))
    with pytest.raises(InputError, match="no use for chunked"):
        generate(Toy(), request, Chunked(), Output(path=tmp_path / "a.mkv"), executor=nobody)
