"""What a command line asks for, checked from end to end before anything heavy is loaded or any file is touched."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from longtake.apps.generate.settings import Making, VideoSettings, Workers
from longtake.errors import InputError, LongtakeError
from longtake.model import TemporalHooks, VideoSpec
from longtake.models import MODELS, canonical, model_spec
from longtake.models.hub.loading import Loading
from longtake.prompts import parse_prompts, refuse_timeline
from longtake.ranks.torchrun import launched
from longtake.reading import refuse_name
from longtake.report import Order, check_sidecars, order_target, read_order
from longtake.request import PromptTimeline, num_branches
from longtake.sampler import Plan, Sampler
from longtake.samplers import samplers_of
from longtake.samplers.keyframes import init_digest
from longtake.samplers.planning import UNCONDITIONAL, LackingError, checked_plan, one_branch, plan_warnings
from longtake.video.files import report_path, subtitle_path
from longtake.video.formats import Format
from longtake.video.output import Output, refuse_inputs


@dataclass(frozen=True, kw_only=True)
class Job:
    """One video to make, or to plan."""

    order: Order
    """Device and dtype may be auto here."""
    spec: VideoSpec
    format: Format
    plan: Plan
    warnings: tuple[str, ...] = ()
    """What the user should know before the start."""
    split_guidance: bool = False
    """Whether different processes compute the two halves of guidance; decides no frame."""
    workers: Workers = Workers()
    """Who does the tasks; decides no frame."""

    @property
    def output(self) -> Output:
        """Return where the video goes."""
        return self.order.output

    @property
    def fps(self) -> float:
        """Return the frames per second of the file."""
        return self.output.fps or self.spec.fps

    @property
    def frames(self) -> int | None:
        """Return how many frames come out; None for an endless run."""
        return self.order.frames

    @property
    def prompts(self) -> PromptTimeline:
        """Return the prompts by the numbers of the frames that come out."""
        return self.order.prompts


def make_job(settings: VideoSettings, given: list[str]) -> Job:
    """Resolve and check a command line. `given`: the options in it.

    Raises InputError, CapabilityError, OutputError or CheckpointError; touches nothing.
    """
    if settings.repeat is not None:
        _refuse_changes(settings, given)
        order = read_order(settings.repeat)
        asked = settings.output
        order = replace(order, output=replace(order.output, path=asked.path, overwrite=asked.overwrite))
        return _shared(checked_job(order, model_spec(order.model, **order.loading.told), prompts_file=None), settings)
    _check_prompt(settings)
    spec = model_spec(settings.model, **settings.loading.told)
    order = ordered(settings, _timeline(settings, spec))
    job = checked_job(order, spec, settings.prompts)
    if "--crf" in given and not job.format.lossy:
        raise InputError(f"--crf has no effect on {job.output.path}, which is lossless; leave it out, or write .mp4")
    return _shared(job, settings)


def _shared(job: Job, settings: VideoSettings) -> Job:
    if settings.split_guidance and job.spec.call is not None:
        raise InputError(
            f"--split-guidance does not fit {job.spec.name}, whose pipeline guides by itself; leave it out"
        )
    if settings.split_guidance and num_branches(job.plan.guidance) == 1:
        raise one_branch("--split-guidance", job.plan)
    launched().branches(settings.split_guidance)
    settings.workers.check(job.order.sampler)
    return replace(job, split_guidance=settings.split_guidance, workers=settings.workers)


def _refuse_changes(settings: VideoSettings, given: list[str]) -> None:
    allowed = {"--from", "-o", "--output", "--overwrite", "--json", "--dry-run", "--split-guidance"}
    allowed |= {"--executor", "--workers", "--address"}
    extra = [option for option in given if option not in allowed] + ["PROMPT"] * (settings.prompt is not None)
    if extra:
        raise InputError(f"--from repeats a run as it was, so {extra[0]} has no place beside it; leave it out")


def _check_prompt(settings: VideoSettings) -> None:
    if settings.prompt is not None and settings.prompts is not None:
        raise InputError("there are both a prompt and --prompts; give one of them")
    if settings.prompt is not None and not settings.prompt.strip():
        raise InputError("the prompt is empty; write what the video should show")
    if settings.prompt is not None:
        refuse_timeline(settings.prompt)


def checked_loading(loading: Loading, device: str, sampler: Sampler) -> None:
    """Raise InputError for a device that cannot be, for weights that cannot lie so there, or that a sampler cannot do
    with."""
    ranks = launched().size
    if ranks > 1 and device not in ("auto", "cpu", "cuda"):
        raise InputError(f"{ranks} processes take a GPU each, and --device {device} is one; use cuda or cpu")
    loading.offload_on("cpu" if device == "cpu" else "cuda")
    inside = {
        f"--offload {loading.offload}": loading.offload in ("model", "group"),
        "--attention-backend": loading.attention_backend is not None,
        "--compile": loading.compile,
    }
    for option in (option for option, given in inside.items() if given and TemporalHooks in sampler.requires):
        raise InputError(
            f"{option} does not fit {sampler.name}, which takes the place of layers inside the network; leave it out"
        )


def ordered(settings: Making, prompts: PromptTimeline) -> Order:
    """Return the order of a video of these prompts. Raises as `checked_loading` does."""
    checked_loading(settings.loading, settings.device, settings.method)
    return Order(
        model=canonical(settings.model),
        loading=settings.loading.absolute,
        request=replace(settings.request, prompts=prompts),
        sampler=settings.method,
        device=settings.device,
        dtype=settings.dtype,
        output=settings.output,
    )


def _timeline(settings: VideoSettings, spec: VideoSpec) -> PromptTimeline:
    if settings.prompts is not None:
        fps = settings.output.fps or spec.fps
        return parse_prompts(settings.prompts, settings.request.frames, fps)
    if settings.prompt is not None:
        return PromptTimeline.constant(settings.prompt)
    if spec.vocabulary == frozenset():
        return UNCONDITIONAL
    raise InputError("there is no prompt; write what the video should show, in quotes, or give --prompts")


def checked_job(order: Order, spec: VideoSpec, prompts_file: str | None, others: Sequence[Order] = ()) -> Job:
    """Check what is asked for against the model and the disk; raises as `make_job` does. `others` differ from it in
    prompts and seed alone; they are checked and warned of, too."""
    output = order.output
    refuse_name(output.path)
    refuse_inputs(output.path, [order.request.init, output.audio])
    try:
        plan = checked_plan(spec, order.request, order.sampler, output.part)
    except LackingError as error:
        raise LackingError(*error.told, others=_embedded_with(order.sampler)) from None
    if order.init not in (None, init_digest(plan)):
        raise InputError(f"{order.request.init} holds other frames than the run began with; bring them back")
    target = order_target(order, plan)
    if order.audio not in (None, target.settings.get("audio")):
        raise InputError(f"{output.audio} holds another sound than the run had; bring that back")
    if prompts_file is not None and os.path.isfile(prompts_file):
        for path in (each.output.path for each in (order, *others)):
            for file in (path, report_path(path), subtitle_path(path)):
                refuse_inputs(file, [prompts_file])
    check_sidecars(output.path, overwrite=output.overwrite)
    stories = [other.request.prompts for other in others]
    # What a plan can be depends on where prompts begin, not on what they say.
    for story in {story.starts: story for story in stories if story.starts != order.request.prompts.starts}.values():
        checked_plan(spec, replace(order.request, prompts=story), order.sampler)
    warnings = (*plan_warnings(plan, stories), *target.notes)
    return Job(order=order, spec=spec, format=target.format, plan=plan, warnings=warnings)


def _embedded_with(sampler: Sampler) -> list[str]:
    """Return the models in the package that a sampler takes."""
    found = []
    for name in (name for name, entry in MODELS.items() if entry.folder):
        # One whose files are not here is none to name.
        with suppress(LongtakeError):
            found += [name] if sampler.name in samplers_of(model_spec(name)) else []
    return found
