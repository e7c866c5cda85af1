"""From a request to a file: plan, run, write."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from longtake.errors import CapabilityError, InputError, NonFiniteError, plain
from longtake.model import ToldFps, VideoModel, VideoSpec
from longtake.models.words import unknown_words
from longtake.ranks.torchrun import check_same
from longtake.report import Order, check_sidecars
from longtake.request import PromptTimeline, Request, num_branches
from longtake.sampler import Chunk, Plan, Sampler, TaskSampler
from longtake.samplers import plan_work, run_plan
from longtake.tasks.task import Executor, Store, Work
from longtake.video.output import Output

if TYPE_CHECKING:
    from longtake.journal import Journal
    from longtake.ranks.world import World
    from longtake.video.sink import Sink

SEGMENT = 32
LINE_SECONDS = 10.0

UNCONDITIONAL = PromptTimeline.constant("unconditional")
"""What the report says of a model that reads no text, where no prompt was given."""

Progress = Callable[[int, tuple[str, ...], str], None]
"""Told before the first chunk and after every one: frames so far, new warnings, and what goes on while no frames come
(or nothing)."""


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


class Lines:
    """Tells of a run on standard error: its warnings at once, how far it is every ten seconds."""

    def __init__(self, total: int | None) -> None:
        self._total, self._at = total, time.monotonic()

    def __call__(self, frames: int, warnings: tuple[str, ...], doing: str) -> None:
        """Take what a `Progress` is told."""
        for warning in warnings:
            print(plain(f"warning: {warning}"), file=sys.stderr)
        if time.monotonic() - self._at >= LINE_SECONDS:
            self._at = time.monotonic()
            of = "" if self._total is None else f"/{self._total}"
            print(plain(", ".join([f"{frames}{of} frames", *filter(None, [doing])])), file=sys.stderr)


def generate(
    model: VideoModel,
    request: Request,
    sampler: Sampler,
    output: Output,
    world: "World | None" = None,
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> Result:
    """Make the video that is asked for, writing frames as they are made; beside out.mp4 the report, out.json, and the
    prompts as subtitles, out.vtt.

    The same call after any interruption continues; on a finished file it does nothing. Raises CapabilityError,
    InputError or OutputError before any work is done. `progress` is told of warnings and frames; by default a line on
    standard error is.

    With a `world` (see `joined_world`) its processes share the work: each makes the same call, and the first one writes
    and calls `progress`. Any other number of processes may continue the run.

    An `executor` does the tasks of a sampler whose work falls into such; its workers start with `start_work`. Without
    one this process does them.
    """
    # These import torch, which a plan must not wait for.
    from longtake.journal import Journal
    from longtake.noise import seeded_noise
    from longtake.ranks.world import ALONE

    begin, world = time.monotonic(), world or ALONE
    plan = checked_plan(model.spec, request, sampler, output.part)
    sampler.check_ranks(plan, world.clip.size)
    if executor and (world.size > 1 or not isinstance(sampler, TaskSampler)):
        raise InputError(f"an executor has no use for {sampler.name} on {world.size} processes; leave it out")
    settings = run_settings(model, plan, sampler, output.part)
    written = {f"output {name}": str(value) for name, value in asdict(output).items()}
    check_same([json.loads(text) for text in world.all.say(json.dumps({**settings, **written}))])
    journal = None
    if world.rank == 0:
        check_sidecars(output.path, overwrite=output.overwrite, prompts_file=None)
        journal = Journal(_order(model, plan, sampler, output), plan, world.size)
    with _opened(model, plan, output, settings) if world.rank == 0 else nullcontext() as sink:
        before, finished_before = _told(world, sink and [sink.next_frame, sink.finished])
        if not finished_before:
            restart = world.all.share(sink.restart.state if sink and sink.restart else None, model.device)
            store = _store(output, world, model) if isinstance(sampler, TaskSampler) else None
            chunks = run_plan(model, plan, seeded_noise(request.seed), world, restart, executor, store)
            _write(_numbered(chunks, output.part), sink, journal, progress or Lines(plan.request.frames), plan)
        frames, warnings = _told(world, sink and [sink.next_frame, _all_warnings(plan, sink)])
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
    """Return the frames of a video as they are made, in memory: uint8 arrays (frames, height, width, 3), in order.

    They are those that `generate` writes; nothing is written here. Raises CapabilityError or InputError before any work
    is done.
    """
    from longtake.noise import seeded_noise
    from longtake.ranks.world import ALONE

    plan = checked_plan(model.spec, request, sampler)
    chunks = run_plan(model, plan, seeded_noise(request.seed), ALONE)
    return (chunk.frames for chunk in chunks if len(chunk.frames))


def plan_warnings(plan: Plan) -> tuple[str, ...]:
    """Return what the user should know before the start."""
    spec, request, warnings = plan.spec, plan.request, []
    unknown = unknown_words(spec, " ".join([*request.prompts.texts, request.negative_prompt]))
    if spec.vocabulary == frozenset() and request.prompts != UNCONDITIONAL:
        warnings.append(f"the model {spec.name} reads no text: the prompt changes nothing")
    elif spec.vocabulary and unknown:
        warnings.append(
            f"the model {spec.name} does not know {', '.join(map(repr, unknown))}; "
            f"the words it knows: {' '.join(sorted(spec.vocabulary or ()))}"
        )
    late = [start for start in request.prompts.starts if request.frames is not None and start >= request.frames]
    if late:
        warnings.append(
            f"the video ends at frame {request.frames}; the prompts from frame {late[0]} on are not reached"
        )
    if spec.prompts == "window" and len(request.prompts.spans(request.frames)) > 1:
        warnings.append(
            f"the model {spec.name} takes one prompt for all frames of a window: prompts change from window to window, "
            "and a window has the prompt of its middle frame"
        )
    return (*warnings, *plan.warnings)


def _all_warnings(plan: Plan, sink: "Sink") -> tuple[str, ...]:
    return tuple(dict.fromkeys([*plan_warnings(plan), *sink.warnings]))


def _order(model: VideoModel, plan: Plan, sampler: Sampler, output: Output) -> Order:
    return Order(
        model=model.origin or model.spec.name,
        digest=model.digest,
        request=plan.request,
        sampler=sampler,
        device=model.device.type,
        dtype=str(model.dtype).removeprefix("torch."),
        output=output,
    )


def _opened(model: VideoModel, plan: Plan, output: Output, settings: Mapping[str, object]) -> "Sink":
    # Imports torch and av.
    from longtake.video.sink import open_sink

    return open_sink(
        output.path,
        settings=settings,
        fps=model.spec.fps if output.fps is None else output.fps,
        crf=output.crf,
        scale=output.scale,
        segment=SEGMENT,
        total=output.part[1] - output.part[0] if output.part else plan.request.frames,
        size=(model.spec.height, model.spec.width),
        comment=plain(" | ".join(plan.request.prompts.texts)),
        overwrite=output.overwrite,
    )


def _store(output: Output, world: "World", model: VideoModel) -> Store:
    """Return where the results of tasks are kept: in files beside the output."""
    from longtake.tasks.stores import FolderStore, SharedStore
    from longtake.video.paths import state_folder

    folder = FolderStore(state_folder(output.path) / "nodes")
    return folder if world.size == 1 else SharedStore(world.all, model.device, None if world.rank else folder)


def _numbered(chunks: Iterable[Chunk], part: tuple[int, int] | None) -> Iterable[Chunk]:
    """Return chunks with the numbers that their frames have in the file."""
    return (replace(chunk, start=chunk.start - part[0]) for chunk in chunks) if part else chunks


def start_work(
    load: Callable[[int], VideoModel], request: Request, sampler: TaskSampler, part: tuple[int, int] | None, number: int
) -> Work:
    """Return what does the tasks of such a run, in a worker of its own. `load` makes the model of worker `number`."""
    from longtake.noise import seeded_noise
    from longtake.ranks.world import ALONE

    model = load(number)
    return plan_work(model, checked_plan(model.spec, request, sampler, part), seeded_noise(request.seed), ALONE)


def _write(
    chunks: Iterable[Chunk], sink: "Sink | None", journal: "Journal | None", progress: Progress, plan: Plan
) -> None:
    """Take all chunks, of which only the process with the sink needs the frames."""
    if sink is None or journal is None:
        for _ in chunks:
            pass
        return
    warnings = _all_warnings(plan, sink)
    try:
        progress(sink.next_frame, warnings, "")
        for chunk in chunks:
            sink.append(chunk)
            journal.note(sink.next_frame)
            progress(sink.next_frame, (), chunk.doing)
    except BaseException as error:
        # Frames that the sink took in the call that was interrupted are in the file too.
        with suppress(OSError):
            journal.close(sink.next_frame, complete=False, warnings=warnings)
        progress(sink.next_frame, (), "")
        if isinstance(error, NonFiniteError):
            kept = f"stopped at frame {sink.next_frame}; the frames before it are kept"
            raise NonFiniteError(f"{kept}; {error}") from error
        raise
    sink.finish()


def _told(world: "World", values: list[Any] | None) -> list[Any]:
    """Return what the first process gives; the others give nothing."""
    return json.loads(world.all.say(json.dumps(values))[0])


def checked_plan(spec: VideoSpec, request: Request, sampler: Sampler, part: tuple[int, int] | None = None) -> Plan:
    """Return the plan of a video, or of these frames of it.

    Raises CapabilityError where the model lacks what the sampler needs, or the sampler cannot make a part alone;
    InputError for settings that clash, and for frames that the video does not have.
    """
    missing = [capability.__name__ for capability in sampler.requires if capability not in spec.capabilities]
    if missing:
        raise CapabilityError(
            f"{sampler.name} needs {' and '.join(missing)}, which the model {spec.name} does not offer; "
            "'longtake models' shows which model runs with which sampler"
        )
    plan = sampler.plan(request, spec)
    if spec.vocabulary == frozenset() and num_branches(plan.guidance) > 1:
        raise InputError(f"guidance has no effect on {spec.name}, which reads no text; leave it out")
    if request.told_fps is not None and ToldFps not in spec.capabilities:
        raise InputError(f"told_fps has no effect on {spec.name}, which asks for no frames per second; leave it out")
    if part is None:
        return plan
    if not isinstance(sampler, TaskSampler):
        raise CapabilityError(f"{sampler.name} cannot make a part of a video alone; make all of it, or use nuwa-xl")
    return sampler.part(plan, range(*part))


def run_settings(
    model: VideoModel, plan: Plan, sampler: Sampler, part: tuple[int, int] | None = None
) -> dict[str, object]:
    """Return everything that decides the frames, by the names that a user would know, as JSON values."""
    prompts = plan.request.prompts
    return {
        "prompts": {str(start): text for start, text in zip(prompts.starts, prompts.texts, strict=True)},
        **{name: value for name, value in asdict(plan.request).items() if name != "prompts"},
        "guidance": plan.guidance,
        "model": plan.spec.name,
        "model digest": model.digest,
        "sampler": sampler.name,
        **{f"sampler.{name}": value for name, value in asdict(sampler).items()},  # pyright: ignore
        **({"part": list(part)} if part else {}),
        "device": model.device.type,
        "dtype": str(model.dtype).removeprefix("torch."),
    }
