"""What a command line asks for, checked from end to end before anything heavy is loaded or any file is touched."""

from dataclasses import dataclass, replace
from pathlib import Path

from longtake._generate import SEGMENT, Output, checked_plan
from longtake.apps.report import Order, check_sidecars, read_order
from longtake.apps.settings import VideoSettings
from longtake.apps.workers import Workers, chosen_workers
from longtake.errors import InputError
from longtake.model import VideoSpec
from longtake.models import canonical, model_spec
from longtake.models.words import unknown_words
from longtake.prompts.parse import parse_prompts
from longtake.ranks.torchrun import launched
from longtake.request import PromptTimeline, Request, num_branches
from longtake.sampler import Plan, Sampler
from longtake.video.formats import Format
from longtake.video.output import make_target


@dataclass(frozen=True, kw_only=True)
class Job:
    """One video to make, or to plan."""

    order: Order
    """Device and dtype may be auto here."""
    spec: VideoSpec
    output: Output
    format: Format
    plan: Plan
    warnings: tuple[str, ...] = ()
    """What the user should know before the start."""
    split_guidance: bool = False
    """Whether different processes compute the two halves of guidance; decides no frame."""
    workers: Workers | None = None
    """Who does the tasks, if others; decides no frame."""

    @property
    def frames(self) -> int | None:
        """Return how many frames come out; None for an endless run."""
        part = self.order.part
        return part[1] - part[0] if part else self.order.request.frames

    @property
    def prompts(self) -> PromptTimeline:
        """Return the prompts by the numbers of the frames that come out."""
        prompts = self.order.request.prompts
        return prompts.after(self.order.part[0]) if self.order.part else prompts


def make_job(settings: VideoSettings[Sampler], given: list[str]) -> Job:
    """Resolve and check a command line. `given`: the options in it.

    Raises InputError, CapabilityError, OutputError or CheckpointError; touches nothing.
    """
    if settings.repeat is not None:
        _refuse_changes(settings, given)
        order = read_order(settings.repeat)
        return _shared(_checked(order, settings.output, settings.overwrite, prompts_file=None), settings)
    frames = _num_frames(settings.frames)
    _check_prompt(settings)
    spec = model_spec(settings.model)
    fps = spec.fps if settings.fps is None else settings.fps
    order = Order(
        model=canonical(settings.model),
        digest=None,
        request=Request(
            prompts=_timeline(settings, frames, fps),
            frames=frames,
            seed=settings.seed,
            guidance=settings.guidance,
            negative_prompt=settings.negative_prompt,
            steps=settings.steps,
        ),
        sampler=settings.method,
        device=settings.device,
        dtype=settings.dtype,
        fps=settings.fps,
        crf=settings.crf,
        scale=settings.scale,
        part=_part(settings.part),
    )
    job = _checked(order, settings.output, settings.overwrite, settings.prompts)
    if "--crf" in given and not job.format.lossy:
        raise InputError(f"--crf has no effect on {settings.output}, which is lossless; leave it out, or write .mp4")
    if settings.negative_prompt and job.plan.guidance == 1:
        raise InputError("--negative-prompt has no effect at guidance 1; leave it out, or give another --guidance")
    return _shared(job, settings)


def _shared(job: Job, settings: VideoSettings[Sampler]) -> Job:
    launched().branches(settings.split_guidance)
    if settings.split_guidance and num_branches(job.plan.guidance) == 1:
        raise InputError(
            f"--split-guidance has no effect at guidance {job.plan.guidance:g}, which has one half only; "
            "leave it out, or give another --guidance"
        )
    workers = chosen_workers(settings.executor, settings.workers, settings.address, job.order.sampler)
    return replace(job, split_guidance=settings.split_guidance, workers=workers)


def _refuse_changes(settings: VideoSettings[Sampler], given: list[str]) -> None:
    allowed = {"--from", "-o", "--output", "--overwrite", "--json", "--dry-run", "--split-guidance"}
    allowed |= {"--executor", "--workers", "--address"}
    extra = [option for option in given if option not in allowed] + ["PROMPT"] * (settings.prompt is not None)
    if extra:
        raise InputError(f"--from repeats a run as it was, so {extra[0]} has no place beside it; leave it out")


def _num_frames(text: str) -> int | None:
    if text == "endless":
        return None
    try:
        frames = int(text)
    except ValueError:
        raise InputError(f"--frames {text!r} is neither a whole number nor 'endless'") from None
    if frames < 1:
        raise InputError(f"{frames} frames cannot be made; ask for 1 or more, or for 'endless'")
    return frames


def _part(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, _, stop = text.partition(":")
    if not (first.isdecimal() and stop.isdecimal()):
        raise InputError(f"--range {text!r} is no range; write the first frame and the one after the last: 1000:1100")
    return int(first), int(stop)


def _check_prompt(settings: VideoSettings[Sampler]) -> None:
    if settings.prompt is None and settings.prompts is None:
        raise InputError("there is no prompt; write what the video should show, in quotes, or give --prompts")
    if settings.prompt is not None and settings.prompts is not None:
        raise InputError("there are both a prompt and --prompts; give one of them")
    if settings.prompt is not None and not settings.prompt.strip():
        raise InputError("the prompt is empty; write what the video should show")


def _timeline(settings: VideoSettings[Sampler], frames: int | None, fps: float) -> PromptTimeline:
    if settings.prompts is None:
        return PromptTimeline.constant(settings.prompt or "")
    return parse_prompts(settings.prompts, frames, fps)


def _checked(order: Order, path: str, overwrite: bool, prompts_file: str | None) -> Job:
    spec, request = model_spec(order.model), order.request
    if order.fps is not None and not order.fps > 0:
        raise InputError(f"{order.fps:g} frames per second is no rate; give a number above 0")
    output = Output(path=Path(path), fps=order.fps, crf=order.crf, scale=order.scale, overwrite=overwrite)
    output = replace(output, part=order.part)
    plan = checked_plan(spec, request, order.sampler, order.part)
    target = make_target(
        output.path,
        settings={},
        fps=output.fps or spec.fps,
        crf=output.crf,
        scale=output.scale,
        segment=SEGMENT,
        total=order.part[1] - order.part[0] if order.part else request.frames,
        size=(spec.height, spec.width),
        comment="",
        overwrite=overwrite,
    )
    check_sidecars(output.path, overwrite=overwrite, prompts_file=prompts_file)
    return Job(
        order=order,
        spec=spec,
        output=output,
        format=target.format,
        plan=plan,
        warnings=(*_warnings(spec, request), *plan.warnings),
    )


def _warnings(spec: VideoSpec, request: Request) -> list[str]:
    texts = request.prompts.texts
    unknown = unknown_words(spec, " ".join([*texts, request.negative_prompt]))
    warnings = []
    if spec.vocabulary == frozenset():
        warnings.append(f"the model {spec.name} reads no text: the prompt changes nothing")
    elif unknown:
        warnings.append(
            f"the model {spec.name} does not know {', '.join(map(repr, unknown))}; "
            f"the words it knows: {' '.join(sorted(spec.vocabulary or ()))}"
        )
    late = [start for start in request.prompts.starts if request.frames is not None and start >= request.frames]
    if late:
        warnings.append(
            f"the video ends at frame {request.frames}; the prompts from frame {late[0]} on are not reached"
        )
    return warnings
