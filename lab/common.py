"""What the scripts share: the model as the command line would run it, code of other authors beside ours, videos of
shots, means of what is read there."""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from longtake._generate import Output, generate
from longtake.data.sprites import Shot, SpriteWorld, caption, held_out_shots, training_shots
from longtake.errors import InputError
from longtake.machine import processor
from longtake.metrics.judge import Reading
from longtake.model import VideoModel
from longtake.models import load_model
from longtake.models.hub.precision import choose_hardware
from longtake.request import PromptTimeline, Request
from longtake.sampler import Sampler
from longtake.video.read import read_frames

Frames = NDArray[np.uint8]
Kind = TypeVar("Kind", bound=VideoModel)

HEADS = ("object", "scene", "motion")
"""What the judge reads."""


def measured_model(name: str, kind: type[Kind], window: int | None = None) -> tuple[Kind, dict[str, object]]:
    """Load a model where and in which number format `auto` chooses, with its own window unless one is given; return it
    with the head of its report."""
    hardware = choose_hardware("auto", "auto")
    model = load_model(name, hardware.device, hardware.dtype, **({} if window is None else {"window": window}))
    if not isinstance(model, kind):
        raise InputError(f"the model {name} is no {kind.__name__}, which is measured here; name another --model")
    chosen = {"dtype": hardware.dtype_name, "dtype_because": hardware.reason}
    return model, {"model": name, "digest": model.digest, **chosen}


def machine() -> dict[str, object]:
    """Return processor, cores, threads and versions, for the head of a report of times."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def median_seconds(call: Callable[[], object], repeats: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the median time of a call, after one that is not counted."""
    return statistics.median([seconds(call, clock) for _ in range(repeats + 1)][1:])


def seconds(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the time of a call, on a GPU until that is done."""
    start = clock()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


@contextmanager
def released(checkout: Path, unused: Sequence[str]) -> Iterator[None]:
    """Let modules of a checkout of other authors be imported inside the block; `unused` packages may be missing."""
    for name in unused:
        if name not in sys.modules and find_spec(name) is None:
            sys.modules[name] = ModuleType(name)
            sys.modules[name].__getattr__ = lambda attribute: None  # pyright: ignore[reportAttributeAccessIssue]
    sys.path.insert(0, str(checkout.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(checkout.resolve()))


def in_turn(
    calls: Mapping[str, Callable[[], object]], repeats: int, meet: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """Return the median processor seconds of every call, which take turns; a first round is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            meet()
            taken[name].append(seconds(call, time.process_time))
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def chosen_shots(count: int, seed: int) -> tuple[list[Shot], list[Shot]]:
    """Return as many trained as unseen shots, `count` in all."""
    rng = np.random.default_rng(seed)
    trained, unseen = training_shots(), held_out_shots()
    return (
        [trained[i] for i in rng.choice(len(trained), count - count // 2, replace=False)],
        [unseen[i] for i in rng.choice(len(unseen), count // 2, replace=count // 2 > len(unseen))],
    )


def prompts_of(timeline: Mapping[int, Shot]) -> PromptTimeline:
    """Return the captions of shots."""
    return PromptTimeline(tuple(timeline), tuple(caption(shot) for shot in timeline.values()))


def made_video(model: VideoModel, request: Request, sampler: Sampler, path: Path) -> Frames:
    """Make a video, or read it where it is finished already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generate(model, request, sampler, Output(path=path))
    return np.concatenate(list(read_frames(path)))


def share_right(read: Iterable[tuple[Reading, Shot]]) -> dict[str, float]:
    """Return the shares of readings that are what their shots show."""
    return mean_of([{head: float(getattr(seen, head) == getattr(shot, head)) for head in HEADS} for seen, shot in read])


def mean_of(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the means of rows of the same form."""
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def real_step(timeline: Mapping[int, Shot], num_frames: int, num_worlds: int = 4) -> float:
    """Mean frame-to-frame change of real videos of this timeline, in grey levels (what `mean_step` is compared with).

    Averages `num_worlds` worlds, and of each at most 256 frames, spread over its shots in runs of 16.
    """
    starts = sorted({int(start) for start in np.linspace(0, max(num_frames - 16, 0), 16)})
    changes = []
    for seed in range(num_worlds):
        world = SpriteWorld(seed, timeline)
        for start in starts:
            clip = world.frames(start, min(start + 16, max(num_frames, 2))).astype(np.float32)
            changes.append(np.abs(np.diff(clip, axis=0)).mean())
    return float(np.mean(changes))


def slug(name: str) -> str:
    """Return a name as that of a file."""
    return name.lower().replace(", ", "-").replace(" + ", "-").replace(" ", "-")


def pixels(frames: Frames) -> torch.Tensor:
    """Return frames as a model encodes them."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
