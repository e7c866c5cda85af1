"""What shares, desktops and other people do to an output and its state."""

import errno
import fcntl
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longtake.errors import CheckpointError, OutputError
from longtake.video.record import read_record

from .conftest import NAMES

LEFT_BEHIND = (".DS_Store", "Thumbs.db", "desktop.ini", ".nfs0000001", "._000000.png")


def test_what_a_desktop_leaves_in_a_folder_blocks_nothing(new_run: Callable[..., Any]) -> None:
    whole = new_run("frames")
    whole.finish()
    run = whole.elsewhere("other")
    with pytest.raises(KeyboardInterrupt), run.open() as sink:
        for chunk in run.chunks(sink):
            sink.append(chunk)
            if sink.next_frame > 20:
                for name in LEFT_BEHIND:
                    (run.path / name).write_bytes(b"of the desktop")
                raise KeyboardInterrupt
    run.finish()
    with run.open() as sink:
        assert sink.finished
    assert run.output() == whole.output() | dict.fromkeys(LEFT_BEHIND, b"of the desktop")


@pytest.mark.parametrize("answer", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
@pytest.mark.parametrize("name", NAMES)
def test_a_share_that_cannot_make_names_durable_is_a_warning(
    new_run: Callable[..., Any], name: str, answer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr(os, "fsync", sync)
    run = new_run(name)
    with run.open() as sink:
        assert [warning.count("cannot make names durable") for warning in sink.warnings] == [1]
    run.finish()
    record = read_record(run.path)
    assert record is not None and record.finished


def no_locks(monkeypatch: pytest.MonkeyPatch, answer: int) -> None:
    def lock(descriptor: int, operation: int) -> None:
        raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr(fcntl, "flock", lock)


@pytest.mark.parametrize("answer", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_share_without_locks_is_a_warning_and_the_file_says_who_writes(
    new_run: Callable[..., Any], answer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_locks(monkeypatch, answer)
    run = new_run()
    file = Path(f"{run.path}.state/lock")
    with run.open() as sink:
        assert "knows no locks" in sink.warnings[0]
        assert file.read_text().split() == [str(os.getpid()), platform.node()]
        with pytest.raises(OutputError, match=rf"process {os.getpid()}\) is writing .* or delete .*lock"):
            run.open()
    assert file.read_text() == ""
    run.finish()


@pytest.mark.parametrize("holder", ["", "x", f"{2**22 + 1} {platform.node()}", "{pid} elsewhere"])
def test_without_locks_a_writer_that_is_gone_or_far_away_is_no_obstacle(
    new_run: Callable[..., Any], holder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_locks(monkeypatch, errno.ENOSYS)
    run = new_run()
    Path(f"{run.path}.state").mkdir()
    Path(f"{run.path}.state/lock").write_text(holder.format(pid=os.getpid()))
    run.finish()


@pytest.mark.parametrize("file", ["lock", "state.json.new"])
def test_nothing_is_written_through_a_link(new_run: Callable[..., Any], tmp_path: Path, file: str) -> None:
    run, precious = new_run(), tmp_path / "precious"
    precious.write_text("precious")
    Path(f"{run.path}.state").mkdir()
    Path(f"{run.path}.state/{file}").symlink_to(precious)
    with pytest.raises(OutputError, match=r"^[^\n]*cannot write [^\n]*$"):
        run.open()
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", ["deleted", "moved", "state deleted", "replaced"])
def test_an_output_that_vanishes_is_noticed_at_the_next_segment(
    new_run: Callable[..., Any], name: str, how: str
) -> None:
    run = new_run(name)
    state, kept = Path(f"{run.path}.state"), run.path.with_name("kept")
    with pytest.raises(OutputError, match=r"^[^\n]*was moved or deleted[^\n]*$"), run.open() as sink:
        for chunk in run.chunks(sink):
            if 16 < sink.next_frame < 24 and not kept.exists():
                (state if how == "state deleted" else run.path).rename(kept)
                if how == "replaced" and name != "frames":
                    run.path.write_bytes(b"another file")
            assert chunk.start < 32
            sink.append(chunk)
    if how == "moved":
        kept.rename(run.path)
        run.finish()
        whole = run.elsewhere("whole")
        whole.finish()
        assert run.output() == whole.output()
    elif how == "deleted":
        with pytest.raises(CheckpointError, match="is gone"):
            run.open()
