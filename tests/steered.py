"""Short videos of the toy model to steer."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import longtake
from longtake._generate import generate
from longtake.models.toy import Toy
from longtake.report import read_order, report_path
from longtake.request import PromptTimeline, Request
from longtake.sampler import Sampler
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.fifo.plan import Fifo
from longtake.video.output import Output
from longtake.video.read import read_frames

PROMPTS = PromptTimeline((0, 30), ("a red car", "a blue boat"))
FIFO = Fifo(partitions=2, eta=0.5, decode_batch=7)
CHUNKED = Chunked(overlap=2, eta=0.5)


def quiet(*told: Any) -> None:
    """Hear of a run and say nothing."""


def asked(frames: int | None, sampler: Sampler = FIFO, **other: Any) -> Request:
    steps = None if isinstance(sampler, Fifo) else 3
    return Request(prompts=PROMPTS, frames=frames, seed=4, steps=steps, **other)


def make(path: Path, frames: int | None, sampler: Sampler = FIFO, **output: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    generate(Toy(), asked(frames, sampler), sampler, Output(path=path, scale=2, **output), progress=quiet)
    return path


def stopped(path: Path, at: int, frames: int | None = 96, sampler: Sampler = FIFO) -> Path:
    """Make a video up to a frame or somewhat further."""

    def progress(made: int, *_: Any) -> None:
        if made >= at:
            raise KeyboardInterrupt

    path.parent.mkdir(exist_ok=True)
    with pytest.raises(KeyboardInterrupt):
        generate(Toy(), asked(frames, sampler), sampler, Output(path=path, scale=2), progress=progress)
    return path


def extend(path: Path, frames: int, prompts: Any = None, output: Path | None = None) -> longtake._generate.Result:
    return longtake.extend(path, frames, prompts, output, model=Toy(), progress=quiet)


def redo(path: Path, *asked: Any, **more: Any) -> longtake._generate.Result:
    return longtake.redo(path, *asked, model=Toy(), progress=quiet, **more)


def content(path: Path) -> list[bytes]:
    return [file.read_bytes() for file in (sorted(path.iterdir()) if path.is_dir() else [path])]


def frames_of(path: Path) -> np.ndarray:
    return np.concatenate(list(read_frames(path)))


def repeated(path: Path, at: Path) -> Path:
    """Make the video of a report anew, from nothing."""
    at.parent.mkdir(exist_ok=True)
    order = read_order(str(report_path(path)))
    output = replace(order.output, path=at)
    generate(Toy(), order.request, order.sampler, output, progress=quiet)
    return at
