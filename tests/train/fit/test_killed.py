"""A training that is killed while it writes, before any change of a name or a deletion, loses nothing."""

import itertools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.train.fit.loop import fit

from .test_loop import SETTINGS, LineTask

CHANGES = ("rename", "unlink", "rmdir")
"""By these every folder of a run is put in the place of another, and deleted."""


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


class SavedTask(LineTask):
    """Writes its model in several files, as all do."""

    def save(self, folder: Path) -> None:
        super().save(folder)
        for name, value in self.saved.items():
            torch.save(value, folder / f"{name}.pt")


@contextmanager
def killed_at(change: int) -> Iterator[None]:
    """Do no change of the files from this one on."""
    made = itertools.count()

    def dying(name: str) -> Callable[..., Any]:
        done = getattr(os, name)

        def change_or_die(*arguments: Any, **named: Any) -> None:
            if next(made) >= change:
                raise Killed
            done(*arguments, **named)

        return change_or_die

    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, dying(name))
        yield


def dies(folder: Path, change: int) -> bool:
    """Go on to the end; whether the changes were so many that it was killed."""
    try:
        with killed_at(change):
            fit(SavedTask(), SETTINGS, folder)
    except Killed:
        return True
    return False


def left(folder: Path) -> dict[str, bytes]:
    """Return the files of the model that is there."""
    return {file.name: file.read_bytes() for file in (folder / "final").iterdir()}


@pytest.mark.parametrize("first", [(), ("checkpoint",), ("final",)], ids=["once", "checkpoint first", "final first"])
def test_a_run_that_is_killed_while_it_writes_ends_with_the_whole_model(tmp_path: Path, first: tuple[str, ...]) -> None:
    """Once, or after another kill between the two renames of a folder."""
    fit(SavedTask(), SETTINGS, tmp_path / "whole")
    for change in itertools.count():
        folder = tmp_path / str(change)
        fit(SavedTask(), SETTINGS, folder, lambda step: step == 3)
        for name in first:
            (folder / name).rename(folder / f"{name}.old")
        died = dies(folder, change)
        steps = [json.loads(file.read_text())["step"] for file in folder.glob("checkpoint*/state.json")]
        assert steps and min(steps) >= 3, f"killed at change {change}"
        assert fit(SavedTask(), SETTINGS, folder)
        assert left(folder) == left(tmp_path / "whole"), f"killed at change {change}"
        if not died:
            break
    assert change > 10


def test_what_is_written_is_on_the_disk_before_what_was_there_is_renamed_or_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, renamed, fsync, rename = set(), [], os.fsync, os.rename

    def sync(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def put(source: Path, target: Path) -> None:
        if source.suffix == ".new" and source.is_dir():
            renamed.append(source.name)
            assert {path.stat().st_ino for path in (source, *source.rglob("*"))} <= synced
        rename(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "rename", put)
    fit(SavedTask(), SETTINGS, tmp_path)
    assert {"checkpoint.new", "final.new"} <= set(renamed) and tmp_path.stat().st_ino in synced
