"""From a request to a file: plan, run, write."""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtake.errors import CapabilityError
from longtake.launch import check_same
from longtake.model import VideoModel, VideoSpec
from longtake.request import Request
from longtake.sampler import Chunk, Plan, Sampler

if TYPE_CHECKING:
    from longtake.video.sink import Sink
    from longtake.world import World

SEGMENT = 32

Progress = Callable[[int, tuple[str, ...], str], None]
"""Told after every chunk: frames so far, new warnings, and what goes on while no frames come (or nothing)."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where the video goes, and in which form."""

    path: Path
    """Ending .mp4 (H.264), .mkv (FFV1, lossless) or a folder (PNG, lossless)."""
    fps: float | None = None
    """Frames per second of the file; the model's own rate if not given."""
    crf: int = 18
    """Quality of H.264: 0 is lossless, 18 looks so, 51 is worst."""
    scale: int = 1
    """Enlarge every pixel to a square of this side."""
    overwrite: bool = False
    """Start again where another run has already written."""


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
) -> Result:
    """Make the video that is asked for, writing frames as they are made.

    The same call after any interruption continues; on a finished file it does nothing. Raises CapabilityError,
    InputError or OutputError before any work is done.

    With a `world` (see `joined_world`) its processes share the work: each makes the same call, and the first one writes
    and calls `progress`. Any other number of processes may continue the run.
    """
    # These import torch, which a plan must not wait for.
    from longtake.noise import seeded_noise
    from longtake.world import ALONE

    world = world or ALONE
    plan = checked_plan(model.spec, request, sampler)
    sampler.check_ranks(plan, world.clip.size)
    settings = run_settings(model, plan, sampler)
    written = {f"output {name}": str(value) for name, value in asdict(output).items()}
    check_same([json.loads(text) for text in world.all.say(json.dumps({**settings, **written}))])
    with _opened(model, plan, output, settings) if world.rank == 0 else nullcontext() as sink:
        before, finished_before = _told(world, sink and [sink.next_frame, sink.finished])
        if not finished_before:
            restart = world.all.share(sink.restart.state if sink and sink.restart else None, model.device)
            _write(sampler.run(model, plan, seeded_noise(request.seed), world, restart), sink, progress)
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
        total=plan.request.frames,
        size=(model.spec.height, model.spec.width),
        comment=" | ".join(plan.request.prompts.texts),
        overwrite=output.overwrite,
    )


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
    except BaseException:
        # Frames that the sink took in the call that was interrupted are in the file too.
        progress(sink.next_frame, (), "")
        raise
    sink.finish()


def _told(world: "World", values: list[Any] | None) -> list[Any]:
    """Return what the first process gives; the others give nothing."""
    return json.loads(world.all.say(json.dumps(values))[0])


def checked_plan(spec: VideoSpec, request: Request, sampler: Sampler) -> Plan:
    """Return the plan.

    Raises CapabilityError where the model lacks what the sampler needs, InputError for settings that clash.
    """
    missing = [capability.__name__ for capability in sampler.requires if capability not in spec.capabilities]
    if missing:
        raise CapabilityError(
            f"{sampler.name} needs {' and '.join(missing)}, which the model {spec.name} does not offer; "
            "'longtake models' shows which model runs with which sampler"
        )
    return sampler.plan(request, spec)


def run_settings(model: VideoModel, plan: Plan, sampler: Sampler) -> dict[str, object]:
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
        "device": model.device.type,
        "dtype": str(model.dtype).removeprefix("torch."),
    }
