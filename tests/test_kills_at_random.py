"""Runs that are killed at any moment, every sampler in every format: the same command ends in the same bytes.

The system ends the process after so many seconds of its own work, wherever it is then, so that a busy machine changes
nothing of it. `pytest -m slow tests/test_kills_at_random.py -s` prints how many kills there were.
"""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from longtake._generate import generate
from longtake.models.toy import Toy
from longtake.request import PromptTimeline, Request
from longtake.sampler import Sampler
from longtake.samplers.autoregressive.plan import Autoregressive
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.context_windows.plan import ContextWindows
from longtake.samplers.fifo.plan import Fifo
from longtake.samplers.freenoise.plan import FreeNoise
from longtake.samplers.nuwa_xl.plan import NuwaXl
from longtake.samplers.video_infinity.plan import VideoInfinity
from longtake.video.files import report_path, subtitle_path
from longtake.video.formats import FORMATS
from longtake.video.output import Output

from .forked import in_child

SAMPLERS: dict[str, Sampler] = {
    "autoregressive": Autoregressive(),
    "chunked": Chunked(overlap=2, eta=0.5),
    "context-windows": ContextWindows(context_schedule="looped_uniform", eta=0.5),
    "fifo": Fifo(partitions=3, eta=0.5, decode_batch=7),
    "freenoise": FreeNoise(eta=0.5),
    "nuwa-xl": NuwaXl(),
    "video-infinity": VideoInfinity(),
}
KILLS = 3
"""In a row, each of the run that goes on after the one before."""
SEED = 20

kills: list[str] = []


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked child cannot use the parent's pool of threads; fsync only matters when the power fails."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module", autouse=True)
def counted():
    yield
    print(f"\n{len(kills)} kills: " + ", ".join(f"{kills.count(name)} of {name}" for name in SAMPLERS))


def command(path: Path, sampler: Sampler) -> Callable[[], object]:
    steps = None if sampler.name == "fifo" else 4
    prompts = PromptTimeline((0, 30), ("a red car", "a blue boat"))
    request = Request(prompts=prompts, frames=100, seed=4, steps=steps)
    return lambda: generate(Toy(), request, sampler, Output(path=path, scale=2), progress=lambda *told: None)


def killed_after(seconds: float, action: Callable[[], object]) -> bool:
    """Do something in a process that the system ends after so many seconds of work; return whether it did."""

    def until_then() -> None:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        action()

    return in_child(until_then) == signal.SIGPROF


def renewed(path: Path) -> Path:
    """Return a path of the same name in a new folder."""
    folder = path.parent / "again"
    folder.mkdir()
    return folder / path.name


def output(path: Path) -> dict[str, bytes]:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return {file.name: file.read_bytes() for file in [*files, subtitle_path(path)]}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("ending", [row.ending for row in FORMATS.values()])
def test_killed_at_any_moment_the_same_command_ends_in_the_same_bytes(name: str, ending: str, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole, path = tmp_path / "whole" / f"a{ending}", tmp_path / f"a{ending}"
    begin = time.process_time()
    command(whole, SAMPLERS[name])()
    work, moments = time.process_time() - begin, random.Random(f"{SEED} {name} {ending}")
    killed = 0
    while killed < KILLS:
        # Of what is left after a kill only a part remains.
        if killed_after(moments.uniform(0.02, 0.4) * work, command(path, SAMPLERS[name])):
            killed += 1
            kills.append(name)
        else:
            # It came to its end before: another output takes the next kills.
            assert output(path) == output(whole)
            path = renewed(path)
    command(path, SAMPLERS[name])()
    assert output(path) == output(whole)
    assert json.loads(report_path(path).read_bytes())["complete"] is True
