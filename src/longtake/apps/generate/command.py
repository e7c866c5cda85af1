"""The command `longtake generate`: loads the model of a checked job, shows the progress, ends in good order."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtake._generate import Result, generate
from longtake.apps.arguments import given
from longtake.apps.generate.job import Job, make_job
from longtake.apps.generate.settings import video_settings
from longtake.apps.generate.stopping import Stop, StoppedError, stoppable
from longtake.apps.generate.story import StoryFile, open_story, turned
from longtake.apps.plan.costs import estimate, settled_offload
from longtake.apps.plan.view import headline, planned, show_plan
from longtake.apps.shown import duration, pace, say, size
from longtake.errors import LongtakeError
from longtake.machine import nothing_to_collect
from longtake.model import VideoModel
from longtake.models import load_model
from longtake.models.hub.precision import Hardware, choose_hardware, free_memory
from longtake.ranks.torchrun import launched
from longtake.rates import remember_run
from longtake.reading import read_file
from longtake.report import order_target, report_path
from longtake.steer.plan import Steering
from longtake.steer.run import EditedError, Story, begin
from longtake.steer.video import find_video
from longtake.video.output import Target, earlier_run
from longtake.video.record import differing, read_record
from longtake.words import counted

if TYPE_CHECKING:
    from longtake.ranks.world import World


def generate_command(arguments: Sequence[str]) -> int:
    """Make a video, or say with --dry-run what would be done; return the exit status."""
    settings = video_settings(arguments)
    job = make_job(settings, given(arguments))
    if settings.dry_run:
        content, lines = planned(job, estimate(job))
        show_plan(job, content, lines, as_json=settings.json)
        return 0
    job, steering, story = open_story(job, settings.prompts)
    outcome = run_job(job, steering, story)
    if outcome.line:
        say(outcome.line)
    if settings.json and not launched().rank:
        print(json.dumps(outcome.report, indent=2))
    return outcome.status


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    status: int
    """Exit status of the process."""
    line: str
    """The same in words."""
    report: Mapping[str, Any]
    """What was written beside the output."""


def run_job(job: Job, steering: Steering | None = None, story: StoryFile | None = None) -> Outcome:
    """Make, continue or find finished the video of a job, which a steering leads to; turn with its story.

    Under torchrun all processes take part; the first one shows and reports.
    """
    with ExitStack() as loading:
        loading.enter_context(nothing_to_collect())
        return _run_job(job, steering, story, loading.close)


def _run_job(job: Job, steering: Steering | None, story: StoryFile | None, loaded: Callable[[], None]) -> Outcome:
    # Imports torch, which takes a second.
    from longtake.ranks.rendezvous import joined_world

    first = launched().rank == 0
    # A digest is that of a run before.
    settled_by = "as in the report" if job.order.digest else "as asked"
    hardware = choose_hardware(job.order.device, job.order.dtype, job.spec.released, settled_by)
    job = settled(job, hardware)
    if steering is None or steering.under_way:
        if complete := _complete(job, hardware):
            return complete
        check_begun(job, hardware)
    job.order.check_files()
    for line in _introduction(job, hardware) if first else ():
        say(line)
    run = None
    with stoppable() as stop:
        try:
            with joined_world(hardware.device, job.split_guidance) as world:
                model = load_model(job.order.model, hardware.device, hardware.dtype, **job.order.loading.told)
                loaded()
                job.order.check_weights(model.digest)
                if steering:
                    begin(steering)
                if not first:
                    generate(model, job.order.request, job.order.sampler, job.output, world)
                    return Outcome(status=0, line="", report={})
                result = None
                while result is None:
                    run = _Run(job, model, hardware, stop, world, story)
                    try:
                        result = run.made()
                    except EditedError as edited:
                        job = turned(job, edited.prompts)
        except StoppedError as stopped:
            if not first:
                return Outcome(status=stopped.status, line="", report={})
            if run is None:
                return Outcome(status=stopped.status, line=f"{stopped}: nothing was made yet", report={})
            return run.stopped(stopped)
        assert run is not None
        return run.finished(result)


def _complete(job: Job, hardware: Hardware) -> Outcome | None:
    """Return the end of a run that an earlier call has finished, which no weights are loaded for; None for any other,
    and where that cannot be told without them."""
    order, path = job.order, job.output.path
    if launched().size > 1 or job.output.overwrite:
        return None
    try:
        video = find_video(path)
        if video is None or not video.is_complete:
            return None
        digest = order.digest_here()
        if digest is None:
            return None
        others = differing(video.record.settings, _target(job, hardware, digest).settings)
        if others or order.digest not in (None, digest) or not video.is_as_written(video.record.mark, complete=True):
            return None
    except LongtakeError:
        # Whoever opens it for the run says what is wrong.
        return None
    frames = video.record.next_frame
    report = json.loads(read_file(report_path(path)))
    return Outcome(status=0, line=_nothing_to_do(path, frames), report=report)


def check_begun(job: Job, hardware: Hardware) -> None:
    """Check what an earlier call has left where a video goes, before weights are loaded. Raises as `earlier_run`."""
    if launched().size > 1:
        return
    record = read_record(job.output.path)
    if record is not None and not job.output.overwrite:
        # What a model made by code is made of is not known before.
        digest = job.order.digest_here() or record.settings.get("model digest")
        earlier_run(_target(job, hardware, digest))


def _target(job: Job, hardware: Hardware, digest: Any) -> Target:
    """Return what a run is going to write, with the weights of this digest here."""
    device = hardware.device.partition(":")[0]
    return order_target(replace(job.order, digest=digest, device=device, dtype=hardware.dtype_name), job.plan)


def _nothing_to_do(path: Path, frames: int) -> str:
    return f"{path} is already complete ({counted(frames, 'frame')}); nothing to do"


def settled(job: Job, hardware: Hardware) -> Job:
    """Return a job of which --offload auto is settled, by what is free, and say how."""
    if job.order.loading.offload != "auto":
        return job
    free = free_memory(hardware.device)
    chosen = settled_offload(job, hardware.device, free)
    say(f"offload  auto takes {chosen.order.loading.offload}: {size(free)} are free on {hardware.device}")
    return chosen


def _introduction(job: Job, hardware: Hardware) -> list[str]:
    ranks = launched().size
    shared = f", {ranks} processes" if ranks > 1 else ""
    warnings = [f"warning: {text}" for text in job.warnings]
    return [*headline(job), f"device   {hardware.reason}{shared}", *warnings, f"loading  {job.order.model}"]


class _Run:
    """What the first process shows and reports of a run."""

    def __init__(
        self, job: Job, model: VideoModel, hardware: Hardware, stop: Stop, world: "World", story: StoryFile | None
    ) -> None:
        self._job, self._model, self._hardware, self._stop, self._world = job, model, hardware, stop, world
        self._story = Story(job.order, job.plan, story.told_anew) if story else None
        from longtake.apps.generate.display import Display

        self._display = Display(job.prompts, job.frames)
        self._first: int | None = None
        self._frames = 0

    def made(self) -> Result:
        """Make the video."""
        job, order, hardware = self._job, self._job.order, self._hardware
        with self._display, job.workers.opened(order, hardware.device, hardware.dtype) as executor:
            return generate(
                self._model, order.request, order.sampler, job.output, self._world, self._progress, executor
            )

    def _progress(self, frames: int, warnings: tuple[str, ...], doing: str) -> None:
        if self._first is None:
            self._first = frames
            for warning in warnings:
                if warning not in self._job.warnings:
                    self._display.say(f"warning: {warning}")
            if frames:
                self._display.say(f"resume   from frame {frames}")
        self._frames = frames
        self._display.show(frames, doing)
        self._stop.check()
        # What is told after an error is not a moment to turn.
        if self._story and sys.exc_info()[0] is None:
            self._story.check(frames)

    def stopped(self, stopped: StoppedError) -> Outcome:
        """Report a run that a signal has ended."""
        report: Mapping[str, Any] = {}
        kept = "nothing was made yet; the same command starts again"
        path = self._job.output.path
        # Without a first progress the output was never opened, and is not ours to describe.
        if self._first is not None:
            # A full disk may have kept it from being written.
            report = json.loads(read_file(report_path(path))) if report_path(path).exists() else {}
            record = read_record(path)
            safe = record.next_frame if record else 0
            again = f", making those from {safe} on again" if safe < self._frames else ""
            held = f"{counted(self._frames, 'frame')} and plays" if self._frames else "no frames yet"
            kept = f"{path} holds {held}; the same command continues it{again}"
        return Outcome(status=stopped.status, line=f"{stopped}: {kept}", report=report)

    def finished(self, result: Result) -> Outcome:
        """Report a run that is complete."""
        path, report = self._job.output.path, result.report
        if result.finished_before:
            return Outcome(status=0, line=_nothing_to_do(path, result.frames), report=report)
        made = result.frames - result.resumed_from
        if self._world.size == 1:
            # Estimates are of one process.
            remember_run(result, self._job.order.model, self._hardware)
        speed = f", {pace(made / result.seconds)}" if made else ""
        now = f", {made} of them now" if result.resumed_from else ""
        return Outcome(
            status=0,
            line=(
                f"done     {path}: {counted(result.frames, 'frame')}{now} in {duration(result.seconds)}{speed}, "
                f"{size(report['run']['peak_memory_bytes'])} at most; {report_path(path).name} says how"
            ),
            report=report,
        )
