"""What the same command, another command, a second writer and a failing disk meet at an output."""

import errno
import json
import os
import platform
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake import Output, PromptTimeline, Request, generate, load_model
from longtake.errors import CheckpointError, OutputError
from longtake.sampler import Chunk
from longtake.samplers import sampler_class
from longtake.video import durable
from longtake.video.files import state_folder
from longtake.video.output import earlier_run
from longtake.video.record import read_record

from .conftest import NAMES


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_the_same_command_on_a_finished_run_does_nothing(new_run: Callable[..., Any], name: str) -> None:
    run = new_run(name)
    run.finish()
    before = contents(run.path.parent)
    with run.open() as sink:
        assert sink.finished and sink.restart is None and sink.warnings == []
    assert contents(run.path.parent) == before


def test_state_is_asked_for_only_when_it_is_saved(new_run: Callable[..., Any]) -> None:
    run = new_run(lengths=(3,), total=24)
    asked: list[int] = []

    def noted(chunk: Chunk) -> Chunk:
        stop = chunk.start + len(chunk.frames)
        return Chunk(start=chunk.start, frames=chunk.frames, state=lambda: asked.append(stop) or chunk.state())

    with run.open() as sink:
        for chunk in run.chunks(sink):
            sink.append(noted(chunk))
        sink.finish()
    assert asked == [9, 18, 24]


@pytest.mark.parametrize("name", NAMES)
def test_the_disk_has_the_bytes_before_the_state_and_the_state_before_the_record(
    new_run: Callable[..., Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    rename = os.replace

    def sync(descriptor: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    def replace(source: Path, target: Path) -> None:
        events.append(f"rename {Path(target).name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    run = new_run(name, lengths=(8,), total=8)
    with run.open() as sink:
        (chunk,) = run.chunks(sink)
        events.clear()
        sink.append(chunk)
        stored = ["frame.png.new", "rename {:06d}.png"] if name == "frames" else []
        expected = [event.format(frame) for frame in range(8) for event in stored]
        expected += [name, "state-a.safetensors", "state.json.new", "rename state.json", f"{name}.state"]
        # Only then the state is kept beside, of which the run needs nothing.
        expected += ["rename index.json"]
        assert events == expected


def test_changed_settings_are_refused_by_name(new_run: Callable[..., Any], interrupt_at: Callable[..., None]) -> None:
    run = new_run(settings=(("seed", 7), ("sampler", {"eta": 0.5, "steps": 16})))
    interrupt_at("bytes-written", 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run.finish()
    before = contents(run.path.parent)
    other = run.but(settings=(("seed", 8), ("sampler", {"eta": 0.5})), fps=12.0)
    with pytest.raises(OutputError) as refused:
        other.open()
    for change in ("seed was 7 and is now 8", "sampler.steps was 16 and is now not set", "fps was 8.0 and is"):
        assert change in str(refused.value)
    assert "eta" not in str(refused.value) and "\n" not in str(refused.value)
    assert "--init" not in str(refused.value)
    with pytest.raises(OutputError, match=r"frames was 44 and is now 60; .*; --init .*a.mp4 with another -o goes on"):
        run.but(total=60).open()
    assert contents(run.path.parent) == before


@pytest.mark.parametrize("name", NAMES)
def test_overwrite_starts_again(new_run: Callable[..., Any], name: str) -> None:
    run = new_run(name)
    run.finish()
    first = run.output()
    other = run.but(settings=(("seed", 8),), total=20, overwrite=True)
    other.finish()
    clean = other.elsewhere("clean")
    clean.finish()
    assert other.output() == clean.output() != first
    with other.but(overwrite=False).open() as sink:
        assert sink.finished


def test_a_second_writer_is_refused_with_the_process_that_writes(new_run: Callable[..., Any]) -> None:
    run = new_run()
    with run.open(), pytest.raises(OutputError, match=rf"process {os.getpid()}\) is writing"):
        run.open()
    run.finish()


def test_overwrite_does_not_break_a_lock(new_run: Callable[..., Any]) -> None:
    run = new_run()
    with run.open() as sink:
        for chunk in run.chunks(sink):
            sink.append(chunk)
        with pytest.raises(OutputError, match="is writing"):
            run.but(overwrite=True).open()
        sink.finish()
    with run.open() as sink:
        assert sink.finished


def test_a_lock_of_a_killed_process_is_no_obstacle(new_run: Callable[..., Any]) -> None:
    run = new_run()
    assert run.killed_at("bytes-written", 2) == signal.SIGKILL
    run.finish()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("nth", [3, 5, 9, 14])
def test_a_full_disk_is_one_line_and_the_run_continues(
    new_run: Callable[..., Any], name: str, nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = new_run(name)
    whole.finish()
    run = whole.elsewhere("other")
    writes, whole_write = [0], durable.write_all

    def write(descriptor: int, data: bytes) -> None:
        writes[0] += 1
        if writes[0] >= nth:
            whole_write(descriptor, data[: len(data) // 3])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole_write(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_all", write)
        with pytest.raises(OutputError, match=r"the disk is full while writing .* (frames are safe|again)") as refused:
            run.finish()
    assert "\n" not in str(refused.value)
    run.finish()
    assert run.output() == whole.output()


def stopped(run: Any, interrupt_at: Callable[..., None]) -> None:
    """Leave a run with saved state and frames in the output."""
    interrupt_at("bytes-written", 10 if run.path.suffix == "" else 3, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run.finish()
    record = read_record(run.path)
    assert record is not None and record.tensors and record.stored


def flip(file: Path, place: int) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "tensors flipped": lambda path, folder: flip(next(folder.glob("*.safetensors")), -1),
    "tensors truncated": lambda path, folder: os.truncate(next(folder.glob("*.safetensors")), 20),
    "tensors gone": lambda path, folder: next(folder.glob("*.safetensors")).unlink(),
    "record truncated": lambda path, folder: os.truncate(folder / "state.json", 100),
    "record empty": lambda path, folder: os.truncate(folder / "state.json", 0),
    "record edited": lambda path, folder: edit(folder / "state.json"),
    "record of another kind": lambda path, folder: (folder / "state.json").write_text("[1]"),
    "output short": lambda path, folder: os.truncate(path, 1000),
    "output empty": lambda path, folder: os.truncate(path, 0),
    "output gone": lambda path, folder: path.unlink(),
    "output changed": lambda path, folder: flip(path, 1800),
    "header changed": lambda path, folder: flip(path, 40),
}


def edit(file: Path) -> None:
    content = json.loads(file.read_text())
    content["record"]["next_frame"] += 1
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("finished", [False, True])
def test_a_run_of_an_earlier_layout_is_left_alone(
    new_run: Callable[..., Any], interrupt_at: Callable[..., None], finished: bool
) -> None:
    run = new_run("a.mp4")
    if finished:
        run.finish()
    else:
        stopped(run, interrupt_at)
    file = state_folder(run.path) / "state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"layout": 1}))
    before = everything(run.path)
    if finished:
        with run.open() as sink:
            assert sink.finished
    else:
        with pytest.raises(CheckpointError, match="begun by an earlier version") as refused:
            run.finish()
        assert "\n" not in str(refused.value)
    assert before == everything(run.path)


def everything(path: Path) -> dict[Path, bytes]:
    """Every byte of an output of one file and of its state."""
    files = [path, *(file for file in state_folder(path).rglob("*") if file.is_file())]
    return {file: file.read_bytes() for file in files}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_damage_is_one_line_that_says_how_to_recover_and_touches_nothing(
    new_run: Callable[..., Any], interrupt_at: Callable[..., None], name: str, damage: str
) -> None:
    run = new_run(name)
    stopped(run, interrupt_at)
    DAMAGES[damage](run.path, Path(f"{run.path}.state"))
    before = contents(run.path.parent)
    with pytest.raises(CheckpointError, match=r"^[^\n]*--overwrite[^\n]*$"):
        run.open()
    assert contents(run.path.parent) == before
    run.but(overwrite=True).finish()
    whole = run.elsewhere("whole")
    whole.finish()
    assert run.output() == whole.output()


@pytest.mark.parametrize("damage", ["flipped", "emptied", "halved", "another's"])
@pytest.mark.parametrize("finished", [False, True])
def test_a_frame_that_was_damaged_is_noticed_and_named(
    new_run: Callable[..., Any], interrupt_at: Callable[..., None], damage: str, finished: bool
) -> None:
    run = new_run("frames")
    if finished:
        run.finish()
    else:
        stopped(run, interrupt_at)
    file = run.path / "000002.png"
    if damage == "flipped":
        flip(file, file.stat().st_size // 2)
    elif damage == "another's":
        file.write_bytes((run.path / "000003.png").read_bytes())
    else:
        os.truncate(file, 0 if damage == "emptied" else file.stat().st_size // 2)
    says = "not all are its own" if damage == "another's" else "000002.png is damaged"
    with pytest.raises(CheckpointError, match=rf"^[^\n]*was changed since its run wrote it \([^\n]*{says}[^\n]*$"):
        run.open()


def test_a_deeply_nested_record_is_damaged(new_run: Callable[..., Any], interrupt_at: Callable[..., None]) -> None:
    run = new_run()
    stopped(run, interrupt_at)
    Path(f"{run.path}.state/state.json").write_text("[" * 200_000)
    with pytest.raises(CheckpointError, match="damaged"):
        run.open()


def test_a_missing_frame_is_noticed(new_run: Callable[..., Any], interrupt_at: Callable[..., None]) -> None:
    run = new_run("frames")
    stopped(run, interrupt_at)
    (run.path / "000002.png").unlink()
    with pytest.raises(CheckpointError, match="lacks frame 2"):
        run.open()
    (run.path / "000002.png").mkdir()
    with pytest.raises(CheckpointError, match="place of frame 2.*: move .*000002.png away, and then bring it back"):
        run.open()


@pytest.mark.parametrize("damage", ["output short", "output gone", "output changed"])
def test_a_finished_output_that_was_changed_is_not_called_finished(new_run: Callable[..., Any], damage: str) -> None:
    run = new_run()
    run.finish()
    DAMAGES[damage](run.path, Path(f"{run.path}.state"))
    with pytest.raises(CheckpointError, match="--overwrite"):
        run.open()


def test_a_finished_run_is_known_before_torch_is_loaded(new_run: Callable[..., Any]) -> None:
    run = new_run()
    assert earlier_run(run.target()) is None
    assert run.killed_at("bytes-written", 3) == signal.SIGKILL
    assert (begun := earlier_run(run.target())) is not None and not begun.finished
    run.finish()
    assert (done := earlier_run(run.target())) is not None and done.finished
    assert earlier_run(run.but(overwrite=True).target()) is None
    with pytest.raises(OutputError, match="seed was 7 and is now 8"):
        earlier_run(run.but(settings=(("seed", 8),)).target())
    run.path.unlink()
    with pytest.raises(CheckpointError, match="is gone"):
        earlier_run(run.target())


def test_another_machine_warns_and_continues(
    new_run: Callable[..., Any], interrupt_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run()
    stopped(run, interrupt_at)
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    monkeypatch.setattr(platform, "python_version", lambda: "3.99")
    with run.open() as sink:
        assert len(sink.warnings) == 2
        assert any(f"threads {threads}, here it is {threads + 1}" in warning for warning in sink.warnings)
        assert sink.restart is not None


def test_an_endless_run_can_be_closed_at_any_frame(new_run: Callable[..., Any]) -> None:
    whole = new_run(total=20)
    run = whole.elsewhere("endless").but(total=None)
    with run.open() as sink:
        for chunk in whole.chunks(sink):
            sink.append(chunk)
        sink.finish()
    whole.finish()
    assert run.output() == whole.output()


def test_a_failed_write_while_leaving_is_a_warning_and_does_not_hide_the_reason(
    new_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run()

    def full(descriptor: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(KeyboardInterrupt), run.open() as sink:
        sink.append(next(run.chunks(sink)))
        monkeypatch.setattr(durable, "write_all", full)
        raise KeyboardInterrupt
    assert "the last 1 frames could not be stored" in sink.warnings[0]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(new_run: Callable[..., Any]) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    run = new_run(lengths=(16,), total=20_000, segment=32, scale=1)
    with run.open() as sink:
        for chunk in run.chunks(sink):
            sink.append(chunk)
            if sink.next_frame == 1_008:
                early = resident()
        sink.finish()
    assert resident() < early * 1.02


def test_frames_are_removed_all_or_none(tmp_path: Path) -> None:
    """A folder where a frame goes ends an overwriting before it begins, wherever a listing has it."""
    model, request, path = (
        load_model("toy"),
        Request(prompts=PromptTimeline.constant("a"), frames=16),
        tmp_path / "frames",
    )
    generate(model, request, sampler_class("fifo")(), Output(path=path))
    (path / "000008.png").unlink()
    (path / "000008.png").mkdir()
    before = {file.name: file.read_bytes() for file in path.glob("*.png") if file.is_file()}
    with pytest.raises(OutputError, match="000008.png is a folder.*; move it away"):
        generate(model, request, sampler_class("fifo")(), Output(path=path, overwrite=True))
    assert {file.name: file.read_bytes() for file in path.glob("*.png") if file.is_file()} == before
