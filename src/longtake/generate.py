"""From a request to a file: plan, run, write."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from longtake.errors import CapabilityError
from longtake.model import VideoModel, VideoSpec
from longtake.request import Request
from longtake.sampler import Plan, Sampler
from longtake.world import ALONE, World

SEGMENT = 32


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
    world: World = ALONE,
    progress: Callable[[int, tuple[str, ...]], None] = lambda frames, warnings: None,
) -> Result:
    """Make the video that is asked for, writing frames as they are made.

    The same call after any interruption continues; on a finished file it does nothing. `progress` is told the number of
    frames so far, and warnings, after every chunk. Raises CapabilityError, InputError or OutputError before any work is
    done.
    """
    # Both import torch, which a plan must not wait for.
    from longtake.noise import seeded_noise
    from longtake.video.sink import open_sink

    plan = checked_plan(model.spec, request, sampler)
    with open_sink(
        output.path,
        settings=run_settings(model, plan, sampler),
        fps=model.spec.fps if output.fps is None else output.fps,
        crf=output.crf,
        scale=output.scale,
        segment=SEGMENT,
        total=request.frames,
        size=(model.spec.height, model.spec.width),
        comment=" | ".join(request.prompts.texts),
        overwrite=output.overwrite,
    ) as sink:
        before, finished_before = sink.next_frame, sink.finished
        if not finished_before:
            progress(before, tuple(sink.warnings))
            restart = sink.restart.state if sink.restart else None
            try:
                for chunk in sampler.run(model, plan, seeded_noise(request.seed), world, restart):
                    sink.append(chunk)
                    progress(sink.next_frame, ())
            except BaseException:
                # Frames that the sink took in the call that was interrupted are in the file too.
                progress(sink.next_frame, ())
                raise
            sink.finish()
    return Result(
        plan=plan,
        frames=sink.next_frame,
        resumed_from=before,
        finished_before=finished_before,
        warnings=tuple(sink.warnings),
    )


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
