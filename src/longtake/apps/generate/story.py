"""A timeline file that is edited while its video is made, or between two calls of the command that makes it."""

import contextlib
import os
from dataclasses import replace
from pathlib import Path

from longtake.apps.generate.job import Job, checked_job
from longtake.apps.shown import say
from longtake.errors import InputError, LongtakeError
from longtake.prompts import parse_prompts
from longtake.ranks.torchrun import launched
from longtake.request import PromptTimeline
from longtake.samplers import pieces_of
from longtake.steer.plan import Steering, plan_retelling
from longtake.steer.run import begin
from longtake.steer.video import find_video


class StoryFile:
    """The file with the prompts of a run."""

    def __init__(self, file: Path, job: Job) -> None:
        self._file, self._job = file, job
        self._read = self._state()

    def told_anew(self) -> PromptTimeline | None:
        """Return the prompts where the file was edited since they were read; one that cannot be read is told of."""
        if self._state() == self._read:
            return None
        self._read = self._state()
        try:
            return parse_prompts(str(self._file), self._job.frames, self._job.fps)
        except InputError as problem:
            say(f"warning: the edited prompts change nothing: {problem}")
            return None

    def _state(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._file)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size


def open_story(job: Job, prompts: str | None) -> tuple[Job, Steering | None, StoryFile | None]:
    """Return what is to be made, with what the run that is there must turn to first, and the story to look at on the
    way; the last two only where the prompts are a file, and one process makes a video that can turn."""
    file = Path(prompts or "")
    if not prompts or not file.is_file() or launched().size > 1 or pieces_of(job.plan) is None:
        return job, None, None
    steering = None
    # What is wrong with a run that is there, the run itself says.
    with contextlib.suppress(LongtakeError):
        job, steering = _resumed(job)
    return job, steering, StoryFile(file, job)


def turned(job: Job, prompts: PromptTimeline) -> Job:
    """Let a run, which has stopped, turn to other prompts; return what is to be made then."""
    steering = plan_retelling(job.output.path, prompts)
    if steering is None:
        return job
    begin(steering)
    return _steered(steering)


def _steered(steering: Steering) -> Job:
    """Return the job of a steering that has begun, and say from where the prompts are others."""
    say(f"prompts  edited: what has begun stays, others hold from frame {steering.holds} on")
    assert steering.video is not None
    return checked_job(steering.order, steering.video.spec, prompts_file=None)


def _resumed(job: Job) -> tuple[Job, Steering | None]:
    """Return the job as a run that is there goes on with it, where nothing but prompts has changed since it began."""
    order = job.order
    video = None if order.output.overwrite else find_video(order.output.path)
    if video is None:
        return job, None
    was = video.order
    plain = replace(was.request, prompts=order.request.prompts, turns=())
    same = (plain, was.sampler, was.model, was.loading) == (order.request, order.sampler, order.model, order.loading)
    settled = order.device in ("auto", was.device) and order.dtype in ("auto", was.dtype)
    if not (same and settled) or was.request == order.request:
        return job, None
    steering = plan_retelling(order.output.path, order.request.prompts)
    if steering is None:
        return checked_job(was, video.spec, prompts_file=None), None
    return _steered(steering), steering
