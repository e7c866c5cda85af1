"""What NUWA-XL costs: python -m lab measure nuwa-xl [--parts counts workers asleep first batches processes].

Reports calls and levels by length; the time by number of workers, simulated from the measured time of a call, beside
the paper's, and on real workers whose calls sleep; how soon the first frames are there; the time of calls made
together; and that on one and two processes, beside the same network going on frame by frame, of which each call waits
for the one before. --report writes a file.
"""

import hashlib
import heapq
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lab.common import machine, measured_model, median_seconds, seconds
from lab.measure.asleep import Asleep, ForkedProcesses, started
from lab.measure.processes import on_ranks
from longtake.model import Infill, VideoModel, VideoSpec
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE, Group, World
from longtake.request import PromptTimeline, Request
from longtake.sampler import Sampler, TaskSampler
from longtake.samplers import plan_work, run_plan
from longtake.samplers.autoregressive.plan import Autoregressive
from longtake.samplers.nuwa_xl.loop import Tree
from longtake.samplers.nuwa_xl.plan import NuwaXl, NuwaXlPlan
from longtake.samplers.planning import DEFAULT_STEPS
from longtake.tasks.rounds import Rounds
from longtake.tasks.stores import MemoryStore
from longtake.tasks.task import Executor, Task, run_tasks


class Simulated(Executor):
    """Workers that all take `seconds` for a batch, and give the same tensor for each."""

    def __init__(self, workers: int, seconds: float, result: Tensor) -> None:
        self.slots = workers
        self.now = 0.0
        """Seconds since the start, when the last task that was returned was finished."""
        self._seconds, self._result = seconds, result
        self._running: list[tuple[float, Sequence[Task]]] = []

    def submit(self, tasks: Sequence[Task], given: Tensor | None) -> None:
        """Begin a batch now; there are as many workers as slots."""
        heapq.heappush(self._running, (self.now + self._seconds, tasks))

    def next_finished(self) -> tuple[Sequence[Task], Tensor]:
        """Return the batch that is finished first, and move the clock to that time."""
        self.now, tasks = heapq.heappop(self._running)
        return tasks, self._result.expand(len(tasks), *self._result.shape)

    def close(self) -> None:
        """Do nothing: there are no workers."""


PROMPT = "a rocket flies up through the night sky"
LENGTHS = (256, 1024, 3376)
BATCHES = (1, 2, 5, 15)
WORKERS = (1, 2, 4, 8, 16, 32, 64, 69, 128, 225)
# Table 1 of the paper, 1,024 frames at 128 x 128: FDM, window after window, and NUWA-XL.
PAPER_ROW, PAPER_TREE = 453.0, 26.0


Part = Literal["counts", "workers", "asleep", "first", "batches", "processes"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured, as the processes need to know it, too."""

    model: str = "sprites"
    parts: tuple[Part, ...] = ("counts", "workers", "asleep", "first", "batches", "processes")
    steps: int = 4  # denoising steps where whole videos are measured
    frames: int = 226  # length of the video that processes share
    processes: tuple[int, ...] = (1, 2)  # how many share it
    asleep: tuple[int, ...] = (8, 16, 32, 64, 69)  # how many real workers there are whose calls sleep
    call: float = 4.0  # seconds of a call that sleeps


@dataclass(frozen=True, kw_only=True)
class Video:
    """What a video took a process."""

    seconds: float
    """Decoding included."""
    computed: float
    """Seconds that the process computed, of all that passed."""
    digest: str
    """Of the frames, which only the first process has."""


def request(frames: int, steps: int) -> Request:
    """Return the bench's request."""
    return Request(prompts=PromptTimeline.constant(PROMPT), frames=frames, seed=1, steps=steps)


def tree_plan(spec: VideoSpec, frames: int, steps: int = DEFAULT_STEPS) -> NuwaXlPlan:
    """Return the plan of a video of so many frames."""
    return NuwaXl().plan(request(frames, steps), spec)


def counts(spec: VideoSpec, frames: int) -> dict[str, Any]:
    """Return the calls of a tree by level, and of the same network in a row: windows that share no frame, as the paper
    counts, and such that go on from one frame, as a tree's do."""
    plan = tree_plan(spec, frames)
    levels = [plan.ladder.num_needed(level, plan.wanted) for level in range(1, plan.ladder.depth + 1)]
    return {
        "frames": frames,
        "calls": plan.tasks,
        "calls_by_level": levels,
        "critical_path": len(levels),
        "in_a_row": -(-frames // spec.num_frames),
        "in_a_row_sharing_a_frame": Autoregressive(context=1).plan(request(frames, DEFAULT_STEPS), spec).clips,
    }


def rounds(model: VideoModel, frames: int, workers: int) -> float:
    """Return how long a tree takes so many workers, in calls: the tasks in their real order, by a clock."""
    executor, store = Simulated(workers, 1.0, torch.zeros(1)), MemoryStore()
    tree = Tree.of(model, tree_plan(model.spec, frames))
    for _ in run_tasks(tree.first(store), tree.children, lambda tasks: None, executor, store):
        pass
    return executor.now


@torch.inference_mode()
def call_seconds(model: Infill, repeats: int) -> dict[str, float]:
    """Return the time of a call at the default number of steps: the first of a tree, and one that fills a gap; and the
    time to decode a frame, which the first process does for all. Times are of this process alone."""
    plan = tree_plan(model.spec, 226)
    work = plan_work(model, plan, seeded_noise(1), ALONE)
    channels, length, height, width = model.spec.latent_shape
    latents = torch.randn(channels, length, height, width)
    first, gap = (Task(order=(), name=name, key="", parent=None) for name in ((1, 0), (2, 0)))

    def decoded() -> object:
        return model.decode(latents, None, last=True)

    return {
        "first_call": median_seconds(lambda: work([first], None), repeats, time.process_time),
        "call": median_seconds(lambda: work([gap], latents[None, :, :2]), repeats, time.process_time),
        "decode_frame": median_seconds(decoded, repeats, time.process_time) / length,
    }


@torch.inference_mode()
def batches(model: Infill, steps: int, repeats: int = 3) -> dict[str, Any]:
    """Return the time of a call that fills a gap, made alone and so many together: medians of this process, which makes
    batches of all sizes in turn, after a round that is not counted."""
    plan = tree_plan(model.spec, 226, steps)
    work = plan_work(model, plan, seeded_noise(1), ALONE)
    channels, _, height, width = model.spec.latent_shape
    gaps = [Task(order=(), name=(2, index), key="", parent=None) for index in range(BATCHES[-1])]
    ends = torch.randn(len(gaps), channels, 2, height, width)
    taken: dict[int, list[float]] = {size: [] for size in BATCHES}
    for _ in range(repeats + 1):
        for size, times in taken.items():
            times.append(seconds(partial(work, gaps[:size], ends[:size]), time.process_time) / size)
    call = {size: statistics.median(times[1:]) for size, times in taken.items()}
    return {"seconds a call": call, "over a call alone": {size: call[size] / call[1] for size in BATCHES}}


def workers(model: Infill, repeats: int = 3) -> dict[str, Any]:
    """Return simulated times by number of workers, in calls, in seconds of this model, and in seconds of the paper's
    call (its baseline's time over its calls); and from how many workers on a tree is as much sooner as in the paper."""
    call, gain = call_seconds(model, repeats), 1 - PAPER_TREE / PAPER_ROW
    report: dict[str, Any] = {"measured": call, "paper": {"row": PAPER_ROW, "tree": PAPER_TREE, "gain": gain}}
    for frames in LENGTHS:
        row = -(-frames // model.spec.num_frames)
        paper_call = PAPER_ROW / -(-1024 // model.spec.num_frames)
        taken = {count: rounds(model, frames, count) for count in range(1, WORKERS[-1] + 1)}
        report[f"{frames} frames"] = {
            "in_a_row": _times(row, row, call["call"], paper_call),
            **{f"{count} workers": _times(taken[count], row, call["call"], paper_call) for count in WORKERS},
            "workers_to_be_sooner": _fewest(taken, lambda calls, row=row: calls < row),
            # All that a row has for a second worker.
            "workers_to_be_sooner_than_halves_of_guidance": _fewest(taken, lambda calls, row=row: calls < row / 2),
            "workers_for_the_paper": _fewest(taken, lambda calls, row=row: 1 - calls / row >= gain),
        }
    return report


def asleep(model: Infill, counts: Sequence[int], call: float, frames: int = 1024) -> dict[str, Any]:
    """Return the time of a tree on real worker processes, started beforehand, whose calls sleep; beside that of a row.

    So few processors stand for many devices: tasks, results and what they are given travel as they always do.
    """
    plan, row = tree_plan(model.spec, frames), -(-frames // model.spec.num_frames)
    channels, length, height, width = model.spec.latent_shape
    start, ends = Asleep(call, (channels, length, height, width)), torch.zeros(1, channels, 2, height, width)
    report: dict[str, Any] = {"frames": frames, "seconds a call": call, "in_a_row": row * call}
    for count in counts:
        with ForkedProcesses(partial(started, start), count) as executor:
            for number in range(count):
                executor.submit([Task(order=(), name=(number,), key=str(number), parent=None)], None)
            for _ in range(count):
                executor.next_finished()
            tree, store, began = Tree.of(model, plan), MemoryStore(), time.perf_counter()
            for _ in run_tasks(tree.first(store), tree.children, lambda tasks: ends, executor, store):
                pass
            taken = time.perf_counter() - began
        simulated = rounds(model, frames, count) * call
        report[f"{count} workers"] = {"seconds": taken, "simulated": simulated, "gain": 1 - taken / (row * call)}
    return report


def _times(calls: float, row: float, seconds: float, paper_seconds: float) -> dict[str, float]:
    return {
        "calls": calls,
        "seconds": calls * seconds,
        "seconds_of_the_paper": calls * paper_seconds,
        "gain": 1 - calls / row,
    }


def _fewest(taken: dict[int, float], enough: Callable[[float], bool]) -> int | None:
    """Return the fewest workers that are enough."""
    return next((count for count, calls in taken.items() if enough(calls)), None)


@torch.inference_mode()
def first_frames(model: Infill, frames: int, steps: int) -> dict[str, float]:
    """Return how many calls one worker makes until the first frames of a video are there, and how long this process
    computes for them."""
    plan = tree_plan(model.spec, frames, steps)
    work, calls = plan_work(model, plan, seeded_noise(1), ALONE), 0

    def counted(tasks: Sequence[Task], given: Tensor | None) -> Tensor:
        nonlocal calls
        calls += len(tasks)
        return work(tasks, given)

    start = time.process_time()
    chunks = run_plan(model, plan, seeded_noise(1), ALONE, executor=Rounds(counted))
    made = next(len(chunk.frames) for chunk in chunks if len(chunk.frames))
    taken = time.process_time() - start
    return {"frames": frames, "first_frames": made, "calls": calls, "seconds": taken, "all_calls": plan.tasks or 0}


def processes(measured: Settings) -> dict[str, Any]:
    """Return the time of one video on so many processes: by the tree, whose calls they share, and call after call, each
    going on from one frame, of which two processes can only share the halves of guidance.

    "seconds" pass until all is done; "busiest" are those that the process computes that computes most: less cannot pass
    with a processor for each.
    """
    samplers: dict[str, Sampler] = {"tree": NuwaXl(), "in_a_row": Autoregressive(context=1)}
    report: dict[str, Any] = {"processors": len(os.sched_getaffinity(0)), **asdict(measured)}
    for name, sampler in samplers.items():
        taken = {count: on_ranks(count, whole_video, sampler, measured) for count in measured.processes}
        report[name] = {
            f"{count} processes": {
                "seconds": max(video.seconds for video in videos),
                "busiest": max(video.computed for video in videos),
            }
            for count, videos in taken.items()
        }
        report[name]["same_frames"] = len({videos[0].digest for videos in taken.values()}) == 1
    return report


@torch.inference_mode()
def whole_video(world: World, sampler: Sampler, measured: Settings) -> Video:
    """Make a video on the processes of a world."""
    model, _ = measured_model(measured.model, VideoModel)
    if world.size > 1 and not isinstance(sampler, TaskSampler):
        world = replace(world, clip=Group(), cfg=world.all)
    _made(model, sampler, request(model.spec.num_frames, 1), ALONE)
    # All begin together.
    world.all.say("")
    start, computed = time.perf_counter(), time.process_time()
    made = _made(model, sampler, request(measured.frames, measured.steps), world)
    return Video(
        seconds=time.perf_counter() - start,
        computed=time.process_time() - computed,
        digest=hashlib.sha256(made.tobytes()).hexdigest(),
    )


def _made(model: VideoModel, sampler: Sampler, asked: Request, world: World) -> np.ndarray:
    plan = sampler.plan(asked, model.spec)
    chunks = run_plan(model, plan, seeded_noise(asked.seed), world, None)
    return np.concatenate([chunk.frames for chunk in chunks])


PARTS: dict[str, Callable[[Infill, Settings], Any]] = {
    "counts": lambda model, measured: [counts(model.spec, frames) for frames in LENGTHS],
    "workers": lambda model, measured: workers(model),
    "asleep": lambda model, measured: asleep(model, measured.asleep, measured.call),
    "first": lambda model, measured: [
        first_frames(model, frames, measured.steps) for frames in (226, *LENGTHS, 1_000_000)
    ],
    "batches": lambda model, measured: batches(model, measured.steps),
    "processes": lambda model, measured: processes(measured),
}


def measure(chosen: Settings) -> dict[str, Any]:
    """Return the report: calls and seconds."""
    torch.set_num_threads(1)
    model, head = measured_model(chosen.model, Infill)
    return {"machine": machine(), **head, **{part: PARTS[part](model, chosen) for part in chosen.parts}}
