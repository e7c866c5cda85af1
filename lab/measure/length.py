"""What a longer video takes more: python -m lab measure memory [--models toy wan ltx] [--samplers fifo ...].

Every sampler makes videos of several lengths, through `generate` into a file, each in a process of its own. Reported
are the peak of its resident memory; the bytes that are live near its end, counted by the allocator that Python, torch,
numpy and the encoder share here, so that what torch merely holds back does not count; what was written beside the video
for a minute of it; and how many bytes a frame stay alive between the two longest videos, over the bytes of a frame.

`wan`, `wan-5b`, `vace` and `ltx` are as small as can be with the released depth of the decoder, random weights and the
smallest pictures: what is measured is the loop, the decoder's memory and the file. Steps are as few as a sampler takes.
"""

import ctypes
import gc
import json
import os
import re
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lab.common import machine
from lab.measure.tiny import FOLDERS
from longtake._generate import Output, generate
from longtake.errors import CapabilityError, InputError
from longtake.machine import peak_memory
from longtake.model import VideoModel
from longtake.models import load_model
from longtake.request import PromptTimeline, Request
from longtake.sampler import Sampler
from longtake.samplers.autoregressive.plan import Autoregressive
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.fifo.plan import Fifo
from longtake.samplers.nuwa_xl.plan import NuwaXl
from longtake.samplers.planning import checked_plan
from longtake.samplers.video_infinity.plan import VideoInfinity

SMALLEST: dict[str, Sampler] = {
    "fifo": Fifo(lookahead=False),
    "chunked": Chunked(),
    "autoregressive": Autoregressive(),
    "nuwa-xl": NuwaXl(),
    "video-infinity": VideoInfinity(),
}
ALLOCATOR = {"PYTHONMALLOC": "malloc", "MALLOC_ARENA_MAX": "1"}
"""So that Python's own objects are counted as well."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured."""

    models: tuple[str, ...] = ("toy", "sprites", "wan", "ltx")  # also wan-5b, vace
    samplers: tuple[str, ...] = tuple(SMALLEST)
    frames: tuple[int, ...] = (64, 512, 4096, 20000)
    steps: int = 1  # of all but fifo, which takes one a frame of its window


FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks used free keep"


class Allocated(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS.split()]


def live_bytes() -> int:
    """Return the bytes that this process has allocated and not freed, without the names of attributes that the
    interpreter remembers: up to 4,096, of which a longer run has seen more."""
    gc.collect()
    sys._clear_type_cache()
    count = ctypes.CDLL("libc.so.6").mallinfo2
    count.restype = Allocated
    found = count()
    # Large blocks, of which the heap has no part, are counted apart.
    return found.used + found.hblkhd


def written_bytes() -> int:
    """Return the bytes that this process has written to files."""
    return int(re.search(r"wchar: (\d+)", Path("/proc/self/io").read_text()).group(1))  # pyright: ignore


def measure(chosen: Settings) -> dict[str, Any]:
    """Return the report, from a process whose allocator counts."""
    if os.environ.get("PYTHONMALLOC") != "malloc":
        os.execve(sys.executable, [sys.executable, "-m", "lab", *sys.argv[1:]], os.environ | ALLOCATOR)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        rows = [row for name in chosen.models for row in _rows(name, chosen, Path(scratch))]
    return {"machine": machine(), "steps": chosen.steps, "runs": rows}


def _rows(name: str, chosen: Settings, scratch: Path) -> Iterator[dict[str, Any]]:
    model = load_model(str(FOLDERS[name](scratch)) if name in FOLDERS else name)
    for sampler in (SMALLEST[name] for name in chosen.samplers):
        if runs(model, sampler, chosen):
            yield {"model": name, "sampler": sampler.name, **growth(model, sampler, chosen, scratch)}


def runs(model: VideoModel, sampler: Sampler, chosen: Settings) -> bool:
    """Return whether a sampler runs on a model."""
    try:
        return bool(checked_plan(model.spec, request(sampler, chosen.frames[0], chosen.steps), sampler))
    except (CapabilityError, InputError):
        return False


def request(sampler: Sampler, frames: int, steps: int) -> Request:
    """Return what is made."""
    own = None if sampler.name == "fifo" else steps
    return Request(prompts=PromptTimeline.constant("a rocket"), frames=frames, seed=1, steps=own, guidance=1.0)


def growth(model: VideoModel, sampler: Sampler, chosen: Settings, scratch: Path) -> dict[str, Any]:
    """Return the readings of every length, and the slope between the two longest."""
    spec = model.spec
    readings = []
    for frames in chosen.frames:
        wanted = request(sampler, frames, chosen.steps)
        path = scratch / f"{spec.name}-{sampler.name}-{frames}.mp4"
        made = in_child(partial(reading, model, wanted, sampler, path))
        print(f"{spec.name} {sampler.name} {frames}: {made}", file=sys.stderr)
        readings.append(made)
    shorter, longer = readings[-2:]
    slope = (longer["live_bytes"] - shorter["live_bytes"]) / (longer["at_frame"] - shorter["at_frame"])
    frame = 3 * spec.height * spec.width
    return {
        "size": [spec.height, spec.width],
        "lengths": readings,
        "live_bytes_a_frame": slope,
        "share_of_a_frame": slope / frame,
    }


def in_child(action: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Do something in a forked process, which shares what is loaded; return what it returns."""
    source, sink = os.pipe()
    if not (child := os.fork()):
        # Nothing of this process's own end may run in its copy, whatever happens.
        try:
            os.write(sink, json.dumps(action()).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(sink)
    with os.fdopen(source) as answer:
        told = answer.read()
    os.waitpid(child, 0)
    return json.loads(told)


def reading(model: VideoModel, wanted: Request, sampler: Sampler, path: Path) -> dict[str, float]:
    """Make a video; return what it took. Live bytes are the median of those after each state of the last tenth."""
    frames = wanted.frames
    assert frames is not None
    before, written, live, last = live_bytes(), written_bytes(), [], 0

    def look(made: int, warnings: Sequence[str], doing: str) -> None:
        nonlocal last
        if made >= 0.9 * frames and made - last >= 32:
            live.append((made, live_bytes() - before))
            last = made

    begin = time.process_time()
    generate(model, wanted, sampler, Output(path=path), progress=look)
    beside = written_bytes() - written - path.stat().st_size
    return {
        "frames": frames,
        "at_frame": statistics.median(at for at, _ in live),
        "live_bytes": statistics.median(count for _, count in live),
        "peak_resident_bytes": peak_memory(),
        "beside_bytes_a_minute": round(beside / (frames / model.spec.fps / 60)),
        "processor_seconds": round(time.process_time() - begin, 1),
    }
