"""From a request to a file: plan, run, write."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from longtake._given import check_asked, check_shared, check_writing
from longtake.journal import Journal, Progress
from longtake.model import VideoModel
from longtake.report import Order, order_target
from longtake.request import Request
from longtake.sampler import Chunk, Plan, Sampler
from longtake.samplers import run_plan
from longtake.samplers.planning import checked_plan
from longtake.tasks.task import Executor
from longtake.video.files import state_folder
from longtake.video.output import Output

if TYPE_CHECKING:
    from longtake.ranks.world import World
    from longtake.video.sink import Sink


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a call of `generate` did."""

    plan: Plan
    frames: int
    """Frames in the file now."""
    resumed_from: int
    """Frames that were in the file before."""
    finished_before: bool
    """The file was complete already and nothing was done."""
    warnings: tuple[str, ...]
    """What the file's owner should know."""
    seconds: float = field(compare=False)
    """What the call took here, without the measurements of the finished video."""
    report: Mapping[str, Any] = field(compare=False)
    """What was written beside the output; nothing on other processes than the first."""


def generate(
    model: VideoModel,
    request: Request,
    sampler: Sampler,
    output: Output,
    world: "World | None" = None,
    progress: Progress | None = None,
    executor: Executor | None = None,
    made: Sequence[Chunk] | None = None,
) -> Result:
    """Make the video that is asked for, writing frames as they are made; beside out.mp4 the report, out.json, and the
    prompts as subtitles, out.vtt.

    The same call after any interruption continues; on a finished file it does nothing. Raises CapabilityError,
    InputError or OutputError before any work is done. `progress` hears of warnings and frames, else standard error.
    With a `world` (see `joined_world`) its processes share the work: each makes the same call, and the first one writes
    and calls `progress`; any other number of processes may continue. An `executor`, whose workers start with
    `start_work`, does a sampler's tasks; `made` is all that the sampler would yield, where a batch has made it already.
    """
    # These import torch, which a plan must not wait for.
    from longtake.noise import seeded_noise
    from longtake.ranks.world import ALONE
    from longtake.tasks.stores import kept_results
    from longtake.video.sink import Sink

    begin, world = time.monotonic(), world or ALONE
    check_asked(model, request, sampler)
    check_writing(output, world, request, sampler, progress, executor, made)
    plan = checked_plan(model.spec, request, sampler, output.part)
    order = Order.of(model, plan, output)
    check_shared(world, order, plan)
    journal = None if world.rank else Journal(order, plan, world.size, progress)
    with Sink(order_target(order, plan)) if journal else nullcontext() as sink:
        before, finished_before = world.all.say(sink and [sink.next_frame, sink.finished])[0]
        if not finished_before:
            restart = world.all.share(sink.restart.state if sink and sink.restart else None, model.device)
            store = kept_results(state_folder(output.path), world, model.device)
            chunks = run_plan(model, plan, seeded_noise(request.seed), world, restart, executor, store)
            if made is not None:
                chunks = (chunk for chunk in made if chunk.start >= before)
            first = output.part[0] if output.part else 0
            _write((replace(chunk, start=chunk.start - first) for chunk in chunks), sink, journal)
        frames, warnings = world.all.say(sink and journal and [sink.next_frame, journal.warnings(sink)])[0]
    seconds, report = time.monotonic() - begin, {}
    if journal:
        is_there = finished_before and journal.complete
        report = journal.earlier if is_there else journal.close(frames, complete=True, warnings=tuple(warnings))
    return Result(
        plan=plan,
        frames=frames,
        resumed_from=before,
        finished_before=finished_before,
        warnings=tuple(warnings),
        seconds=seconds,
        report=report,
    )


def stream(model: VideoModel, request: Request, sampler: Sampler) -> Iterator[np.ndarray]:
    """Return what `generate` would write, as it is made: uint8 arrays (frames, height, width, 3), in order.

    Raises CapabilityError or InputError before any work is done.
    """
    from longtake.noise import seeded_noise
    from longtake.ranks.world import ALONE

    check_asked(model, request, sampler)
    plan = checked_plan(model.spec, request, sampler)
    return (chunk.frames for chunk in run_plan(model, plan, seeded_noise(request.seed), ALONE) if len(chunk.frames))


def _write(chunks: Iterable[Chunk], sink: "Sink | None", journal: Journal | None) -> None:
    """Take all chunks, of which only the process with the sink needs the frames."""
    if sink is None or journal is None:
        for _ in chunks:
            pass
        return
    with journal.kept(sink):
        for chunk in chunks:
            sink.append(chunk)
            journal.note(sink.next_frame, chunk.doing)
    sink.finish()
