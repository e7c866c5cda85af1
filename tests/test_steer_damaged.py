"""A video that is not as its run wrote it is refused, and made again when it is asked for."""

import os
import re
import shlex
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from longtake._generate import generate
from longtake.apps.cli import main
from longtake.errors import CheckpointError, InputError
from longtake.models.toy import Toy
from longtake.report import report_path
from longtake.video.files import state_folder
from longtake.video.kept import kept_folder, read_kept
from longtake.video.output import Output

from .forked import in_child
from .steered import FIFO, asked, content, extend, frames_of, make, quiet, redo, stopped


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", 70)
    for state in read_kept(path):
        (kept_folder(path) / state.name).write_bytes(b"?")
    for output in (None, tmp_path / "b.mkv"):
        with pytest.raises(CheckpointError, match="is damaged; delete it"):
            extend(path, 30, output=output)
    assert not state_folder(tmp_path / "b.mkv").exists()
    for file in kept_folder(path).glob("*.safetensors"):
        file.unlink()
    assert frames_of(path).shape[0] == 70


@pytest.mark.parametrize("name", ["prepared", "somebody/prepared"])
def test_a_video_of_a_pipeline_that_lies_in_no_folder_is_told_what_can_be_done(tmp_path: Path, name: str) -> None:
    model = Toy()
    model.spec = replace(model.spec, name=name)
    path = tmp_path / "a.mkv"
    generate(model, asked(40), FIFO, Output(path=path), progress=quiet)
    for steer in (extend, redo):
        with pytest.raises(
            InputError, match=rf"made by {name}, whose files .*from_pipe.*generate --init \S+a.mkv"
        ) as told:
            steer(path, 30)
        assert "--download" not in str(told.value) and "did you mean" not in str(told.value)


def _flipped(path: Path) -> None:
    stored = bytearray(path.read_bytes())
    stored[len(stored) // 2] ^= 1
    path.write_bytes(stored)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("a.mkv", _flipped),
        ("a.mp4", _flipped),
        ("a.mkv", lambda path: path.write_bytes(path.read_bytes()[:-99])),
        ("a.mp4", lambda path: path.write_bytes(path.read_bytes() + b"?")),
        ("a.mkv", lambda path: path.unlink()),
        ("frames", lambda path: _flipped(path / "000040.png")),
        ("frames", lambda path: (path / "000003.png").unlink()),
    ],
)
def test_what_was_damaged_is_made_again(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    path = make(tmp_path / name, 70)
    whole = content(path)
    damage(path)
    with pytest.raises(CheckpointError, match=f"let 'longtake redo {path} --from 69' make it again"):
        make(path, 70)
    redo(path, 69)
    assert content(path) == whole
    with pytest.raises(InputError, match="nothing would change"):
        redo(path, 69)


def test_a_damaged_frame_of_a_run_that_goes_on_is_made_again(tmp_path: Path) -> None:
    whole = content(make(tmp_path / "whole", 96))
    path = stopped(tmp_path / "frames", 64)
    _flipped(path / "000020.png")
    redo(path, 20)
    assert content(path) == whole


def _killed(path: Path) -> None:
    def progress(made: int, *_: Any) -> None:
        if made >= 64:
            os.kill(os.getpid(), signal.SIGKILL)

    generate(Toy(), asked(96), FIFO, Output(path=path, scale=2), progress=progress)


@pytest.mark.parametrize("damage", ["frame gone", "folder for a frame", "report gone"])
def test_what_is_advised_after_a_kill_can_be_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    whole = content(make(tmp_path / "whole", 96))
    path = tmp_path / "my frames"
    assert in_child(partial(_killed, path)) == signal.SIGKILL
    frame = path / "000003.png"
    frame.unlink()
    if damage == "folder for a frame":
        frame.mkdir()
    if damage == "report gone":
        report_path(path).unlink()
    with pytest.raises(CheckpointError) as told:
        make(path, 96)
    if damage == "folder for a frame":
        assert f"move {frame} away, and then bring it back" in str(told.value)
        frame.rmdir()
    found = re.search("'longtake (redo .* --from [0-9]+)' make it again", str(told.value))
    assert (found is None) == (damage == "report gone")
    if found:
        monkeypatch.setattr("sys.argv", ["longtake", *shlex.split(found[1])])
        with pytest.raises(SystemExit, match="0"):
            main()
        assert content(path) == whole


@pytest.mark.parametrize("output", [None, "b.mkv"])
def test_nothing_is_begun_on_a_file_that_was_cut_or_is_gone(tmp_path: Path, output: str | None) -> None:
    path = make(tmp_path / "a.mkv", 70)
    whole, branch = path.read_bytes(), output and tmp_path / output
    before = {file.name: file.read_bytes() for file in state_folder(path).iterdir() if file.is_file()}
    for damage, message in (
        (lambda: path.write_bytes(whole[:99]), "a.mkv has 99 bytes"),
        (path.unlink, "a.mkv is gone"),
    ):
        damage()
        with pytest.raises(CheckpointError, match=message):
            redo(path, 60, seed=2, output=branch)
    assert not (tmp_path / "b.mkv.state").exists()
    assert {file.name: file.read_bytes() for file in state_folder(path).iterdir() if file.is_file()} == before
