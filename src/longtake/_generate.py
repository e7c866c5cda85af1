"""From a request to a file: plan, run, write."""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from longtake.errors import CapabilityError, InputError, NonFiniteError, plain
from longtake.model import VideoModel, VideoSpec
from longtake.ranks.torchrun import check_same
from longtake.request import Request, num_branches
from longtake.sampler import Chunk, Plan, Sampler, TaskSampler
from longtake.samplers import plan_work, run_plan
from longtake.tasks.task import Executor, Store, Work
from longtake.video.output import Output

if TYPE_CHECKING:
    from longtake.ranks.world import World
    from longtake.video.sink import Sink

SEGMENT = 32

Progress = Callable[[int, tuple[str, ...], str], None]
"""Told after every chunk: frames so far, new warnings, and what goes on while no frames come (or nothing)."""


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


def generate(
    model: VideoModel,
    request: Request,
    sampler: Sampler,
    output: Output,
    world: "World | None" = None,
    progress: Progress = lambda frames, warnings, doing: None,
    executor: Executor | None = None,
) -> Result:
    """Make the video that is asked for, writing frames as they are made.

    The same call after any interruption continues; on a finished file it does nothing. Raises CapabilityError,
    InputError or OutputError before any work is done.

    With a `world` (see `joined_world`) its processes share the work: each makes the same call, and the first one writes
    and calls `progress`. Any other number of processes may continue the run.

    An `executor` does the tasks of a sampler whose work falls into such; its workers start with `start_work`. Without
    one this process does them.
    """
    # These import torch, which a plan must not wait for.
    from longtake.noise import seeded_noise
    from longtake.ranks.world import ALONE

    world = world or ALONE
    plan = checked_plan(model.spec, request, sampler, output.part)
    sampler.check_ranks(plan, world.clip.size)
    if executor and (world.size > 1 or not isinstance(sampler, TaskSampler)):
        raise InputError(f"an executor has no use for {sampler.name} on {world.size} processes; leave it out")
    settings = run_settings(model, plan, sampler, output.part)
    written = {f"output {name}": str(value) for name, value in asdict(output).items()}
    check_same([json.loads(text) for text in world.all.say(json.dumps({**settings, **written}))])
    with _opened(model, plan, output, settings) if world.rank == 0 else nullcontext() as sink:
        before, finished_before = _told(world, sink and [sink.next_frame, sink.finished])
        if not finished_before:
            restart = world.all.share(sink.restart.state if sink and sink.restart else None, model.device)
            store = _store(output, world, model) if isinstance(sampler, TaskSampler) else None
            chunks = run_plan(model, plan, seeded_noise(request.seed), world, restart, executor, store)
            _write(_numbered(chunks, output.part), sink, progress)
        frames, warnings = _told(world, sink and [sink.next_frame, sink.warnings])
    return Result(
        plan=plan,
        frames=frames,
        resumed_from=before,
        finished_before=finished_before,
        warnings=tuple(warnings),
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


def _write(chunks: Iterable[Chunk], sink: "Sink | None", progress: Progress) -> None:
    """Take all chunks, of which only the process with the sink needs the frames."""
    if sink is None:
        for _ in chunks:
            pass
        return
    progress(sink.next_frame, tuple(sink.warnings), "")
    try:
        for chunk in chunks:
            sink.append(chunk)
            progress(sink.next_frame, (), chunk.doing)
    except NonFiniteError as error:
        progress(sink.next_frame, (), "")
        raise NonFiniteError(f"stopped at frame {sink.next_frame}; the frames before it are kept; {error}") from error
    except BaseException:
        # Frames that the sink took in the call that was interrupted are in the file too.
        progress(sink.next_frame, (), "")
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
