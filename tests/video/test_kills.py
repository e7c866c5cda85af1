"""A run that is killed anywhere and given again ends in the same bytes."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longtake.video import durable
from longtake.video.read import read_frames
from longtake.video.record import read_record

from ..forked import in_child
from .conftest import NAMES

# 44 frames in segments of 8: five full ones and a short one. State is saved 8 times or more.
FILE_POINTS = [
    ("run-claimed", 1),
    ("header-written", 1),
    ("run-begun", 1),
    *product(("segment-encoded", "bytes-written"), (1, 2, 4, 6)),
    *product(("bytes-synced", "state-written", "state-committed"), (1, 2, 5)),
    *product(("record-written", "record-renamed"), (1, 2, 4, 6)),
    ("finalise-start", 1),
    ("length-written", 1),
    ("finalise-synced", 1),
    ("finalise-recorded", 1),
    ("finalise-end", 1),
]
FOLDER_POINTS = [
    ("run-claimed", 1),
    *product(("segment-encoded", "bytes-written"), (1, 8, 17, 44)),
    *product(("bytes-synced", "state-written", "state-committed"), (1, 2, 5)),
    *product(("record-written", "record-renamed"), (1, 2, 4, 6)),
    ("finalise-start", 1),
    ("finalise-synced", 1),
    ("finalise-recorded", 1),
    ("finalise-end", 1),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_run_continues_to_the_same_bytes(new_run: Callable[..., Any], name: str) -> None:
    kills = FOLDER_POINTS if name == "frames" else FILE_POINTS
    assert len(kills) >= 20
    whole = new_run(name)
    whole.finish()
    for point, nth in kills:
        run = whole.elsewhere(f"{point}-{nth}")
        assert run.killed_at(point, nth) == signal.SIGKILL, (point, nth)
        record = read_record(run.path)
        if record is not None and record.stored:
            left = sum(len(frames) for frames in read_frames(run.path))
            assert left >= record.stored, (point, nth)
        run.finish()
        assert run.output() == whole.output(), (point, nth)
        assert sorted(os.listdir(f"{run.path}.state")) == ["kept", "lock", "state.json"], (point, nth)


@pytest.mark.parametrize("lengths", [(1,), (3,), (7,), (20,), (5, 0, 0, 11)])
def test_chunks_of_any_length_make_the_same_bytes_also_after_a_kill(
    new_run: Callable[..., Any], lengths: tuple[int, ...]
) -> None:
    whole = new_run()
    whole.finish()
    run = whole.elsewhere("other").but(lengths=lengths)
    assert run.killed_at("bytes-written", 3) == signal.SIGKILL
    assert run.killed_at("state-committed", 1) == signal.SIGKILL
    run.finish()
    assert run.output() == whole.output()


def test_a_run_that_is_killed_again_and_again_gets_there(new_run: Callable[..., Any]) -> None:
    whole = new_run(lengths=(8,))
    whole.finish()
    run = whole.elsewhere("other")
    kills = 0
    while run.killed_at("state-committed", 1) == signal.SIGKILL:
        kills += 1
    assert kills == 5
    assert run.output() == whole.output()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "frames"])
def test_half_a_segment_on_the_disk_is_cut_off(
    new_run: Callable[..., Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = new_run(name)
    whole.finish()
    run = whole.elsewhere("other")
    with torn_write(monkeypatch, run.path, nth=4):
        assert run.killed_at("never", 1) == signal.SIGKILL
    record = read_record(run.path)
    assert record is not None and run.path.stat().st_size > record.mark["bytes"]
    run.finish()
    assert run.output() == whole.output()


@contextmanager
def torn_write(monkeypatch: pytest.MonkeyPatch, path: Path, nth: int) -> Iterator[None]:
    """Let the process die in the middle of its nth write to a file."""
    whole_write, writes = durable.write_all, [0]

    def write(descriptor: int, data: bytes) -> None:
        if os.path.exists(path) and os.path.sameopenfile(descriptor, os.open(path, os.O_RDONLY)):
            writes[0] += 1
            if writes[0] == nth:
                whole_write(descriptor, data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
        whole_write(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_all", write)
        yield


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("point", "nth"), [("segment-encoded", 1), ("bytes-written", 3), ("state-written", 4)])
def test_ctrl_c_leaves_all_frames_and_a_run_that_continues(
    new_run: Callable[..., Any], interrupt_at: Callable[..., None], name: str, point: str, nth: int
) -> None:
    whole = new_run(name, scale=1)
    whole.finish()
    run = whole.elsewhere("other")
    interrupt_at(point, nth, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt), run.open() as sink:
        for chunk in run.chunks(sink):
            sink.append(chunk)
    left = np.concatenate(list(read_frames(run.path)))
    assert len(left) == sink.next_frame > 0
    if name != "a.mp4":
        # Some store colours in other colour spaces, which rounds them.
        np.testing.assert_allclose(left.astype(int), run.truth(len(left)), atol=0 if name in ("a.mkv", "frames") else 3)
    run.finish()
    assert run.output() == whole.output()


def test_a_run_that_is_ended_politely_leaves_all_frames(new_run: Callable[..., Any]) -> None:
    whole = new_run("a.mkv", scale=1)
    whole.finish()
    run = whole.elsewhere("other")
    report = run.path.with_suffix(".txt")

    def command() -> None:
        def stop(number: int, frame: object) -> None:
            raise SystemExit(128 + number)

        signal.signal(signal.SIGTERM, stop)
        with run.open() as sink:
            for chunk in run.chunks(sink):
                sink.append(chunk)
                report.write_text(str(sink.next_frame))
                if sink.next_frame > 20:
                    os.kill(os.getpid(), signal.SIGTERM)

    assert in_child(command) == 0
    left = np.concatenate(list(read_frames(run.path)))
    assert len(left) == int(report.read_text()) > 20
    np.testing.assert_array_equal(left, run.truth(len(left)))
    run.finish()
    assert run.output() == whole.output()


def test_a_second_run_that_stops_before_it_has_made_a_frame_leaves_the_tail(
    new_run: Callable[..., Any], interrupt_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run()
    interrupt_at("bytes-written", 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run.finish()
    monkeypatch.setattr(durable, "reach", lambda point: None)
    before = run.output()
    with pytest.raises(KeyboardInterrupt), run.open():
        raise KeyboardInterrupt
    assert run.output() == before
