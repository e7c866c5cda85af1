"""What serving costs: python -m lab measure serve [--model sprites] [--sampler fifo] [--repeats 5] [--report out.json].

The same video by `generate` in this process and by a worker of a queue in its own, in turn, models loaded: the time
from the request until the video is complete over that of the bare run, and the same of the processor's time, which
other work on the machine changes less. And the time from the request until the first fragment of 8 frames plays,
beside that of the network calls which come before it, and how many these are, both also of the processor's time, which
does not count what the request waits for. Requests enter the queue as the HTTP
interface enters them, without HTTP. At last the bytes that a redo from the middle takes: of the file, which stay, and
of the state that it goes on from; and what all states together take on the disk.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lab.common import machine, measured_model, seconds
from longtake._generate import generate, stream
from longtake.model import PerFrameNoise
from longtake.request import PromptTimeline
from longtake.sampler import Sampler
from longtake.serve.job import VideoJob, order_of
from longtake.serve.queue import Queue
from longtake.serve.settings import Computing, Quota
from longtake.serve.supervisor import Supervisor
from longtake.steer.plan import plan_redo
from longtake.video.record import read_record

PLAYABLE = 8
"""Frames of the first fragment."""
# Looking takes some of the processor, too.
_LOOK_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured."""

    model: str = "sprites"
    sampler: str = "fifo"
    frames: int = 64
    repeats: int = 5


def measure(chosen: Settings) -> dict[str, Any]:
    """Return the report."""
    model, head = measured_model(chosen.model, PerFrameNoise)
    prompt = PromptTimeline.constant("a rocket flies up through the night sky")
    asked = VideoJob(prompts=prompt, model=chosen.model, sampler=chosen.sampler, frames=chosen.frames)
    with tempfile.TemporaryDirectory() as scratch:
        queue = Queue(Path(scratch) / "served", Quota(keep_free=0), Computing(workers=1))
        with Supervisor(queue) as workers:
            # Loads the model of the worker, and what else the first video of a process brings in.
            (worker,) = workers.processes
            _served(queue, asked, worker)
            rows = [_row(model, queue, worker, asked, seed, Path(scratch)) for seed in range(chosen.repeats + 1)]
        redo = _redo(queue.path(queue.list(limit=1)[0]), chosen.frames // 2)
    rows = rows[1:]
    middle = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    return {
        "machine": machine(),
        **head,
        "sampler": chosen.sampler,
        "frames": chosen.frames,
        **middle,
        "redo": redo,
        "runs": rows,
    }


def _row(
    model: PerFrameNoise, queue: Queue, worker: int, asked: VideoJob, seed: int, scratch: Path
) -> dict[str, float]:
    asked = replace(asked, seed=seed)
    order = order_of(asked, scratch / f"bare-{seed}.mp4", queue.uploads, queue.computing)
    before = _processor_seconds(os.getpid())
    bare = seconds(partial(generate, model, order.request, order.sampler, order.output, progress=lambda *_: None))
    bare_processor = _processor_seconds(os.getpid()) - before
    served = _served(queue, asked, worker)
    calls, network, network_processor = _before_first(model, order.request, order.sampler)
    return {
        "bare_seconds": bare,
        "served_seconds": served.whole,
        "served_over_bare": served.whole / bare,
        "processor_served_over_bare": served.processor_whole / bare_processor,
        "first_fragment_seconds": served.first,
        "network_calls_before_it": calls,
        "network_seconds_before_it": network,
        "first_fragment_beside_network_seconds": served.first - network,
        "first_fragment_beside_network_processor_seconds": served.processor_first - network_processor,
    }


def _redo(path: Path, frame: int) -> dict[str, int]:
    """Return what a redo of a video from a frame on takes of what is there, in bytes."""
    steering = plan_redo(path, frame, "a whale dives down below the waves", output=path.with_name("other.mp4"))
    assert steering.video is not None
    state, states = steering.state, steering.video.states(None)
    return {
        "from_frame": frame,
        "made_from_frame": steering.made_from,
        "bytes_that_stay": state.mark["bytes"] if state else 0,
        "bytes_of_the_state": state.bytes if state else 0,
        "states": len(states),
        "bytes_of_all_states": sum(one.bytes for one in states),
        "bytes_of_the_video": path.stat().st_size,
    }


def _processor_seconds(process: int) -> float:
    """Return the time of the processor that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class _Served:
    """Seconds from the request until the first fragment plays, and until the video is complete; and those of the
    processor that the worker takes meanwhile."""

    first: float
    whole: float
    processor_first: float
    processor_whole: float


def _served(queue: Queue, asked: VideoJob, worker: int) -> _Served:
    """Ask for a video, and wait for it."""
    before, start = _processor_seconds(worker), time.perf_counter()
    job = queue.add(asked)
    _wait(lambda: (record := read_record(queue.path(job))) is not None and record.stored >= PLAYABLE)
    first, processor_first = time.perf_counter() - start, _processor_seconds(worker) - before
    _wait(lambda: queue.get(job.id).status == "completed")
    done = queue.get(job.id)
    assert done.completed_at is not None
    return _Served(
        first=first,
        whole=done.completed_at - done.created_at,
        processor_first=processor_first,
        processor_whole=_processor_seconds(worker) - before,
    )


def _wait(what: Callable[[], bool]) -> None:
    while not what():
        time.sleep(_LOOK_SECONDS)


def _before_first(model: PerFrameNoise, request: Any, sampler: Sampler) -> tuple[int, float, float]:
    """Return how many calls of the network come before the first fragment, and the seconds that they take, of the
    clock and of the processor."""
    calls, took, worked, call = 0, 0.0, 0.0, model.denoise

    def counted(x: Any, *given: Any, **named: Any) -> Any:
        nonlocal calls, took, worked
        start, before = time.perf_counter(), time.process_time()
        result = call(x, *given, **named)
        took += time.perf_counter() - start
        worked += time.process_time() - before
        calls += len(x)
        return result

    model.denoise = counted  # pyright: ignore[reportAttributeAccessIssue]
    try:
        made = 0
        for frames in stream(model, request, sampler):
            made += len(frames)
            if made >= PLAYABLE:
                break
    finally:
        del model.denoise
    return calls, took, worked
