"""What a request becomes: checked as the command line checks it, and as far as another video lets one see. Free of
torch."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from longtake.errors import InputError, LongtakeError
from longtake.models import model_spec
from longtake.report import Order, order_target
from longtake.request import PromptTimeline
from longtake.samplers import pieces_of
from longtake.samplers.planning import checked_plan
from longtake.serve.job import Asked, ExtendJob, Job, RedoJob, VideoJob, order_of
from longtake.serve.rows import UnknownJobError
from longtake.serve.settings import Computing
from longtake.steer.plan import Steering, plan_extension, plan_redo, spliced


class QuotaError(LongtakeError):
    """More than the server takes."""


def foreseen(asked: Asked, path: Path, uploads: Path, computing: Computing, get: Callable[[str], Job]) -> Job:
    """Return the job that a request for the video `path` becomes, which waits; `get` returns the parent.

    Raises as the command does, QuotaError for an endless video, and what `get` does.
    """
    now = time.time()
    common: dict[str, Any] = {"id": path.stem, "status": "queued", "asked": asked, "told": 0, "frames_done": 0}
    common |= {"created_at": now, "updated_at": now}
    if isinstance(asked, VideoJob):
        return Job(**common, **_looked_at(order_of(asked, path, uploads, computing), asked))
    parent = get(asked.parent)
    if rests(parent):
        steering_of(asked, path.with_name(parent.file), path)
    elif isinstance(asked, RedoJob) and not 0 <= asked.frame < parent.frames_total:
        raise InputError(f"{parent.id} gets frames 0 to {parent.frames_total - 1}, not {asked.frame}; give one")
    if isinstance(asked, ExtendJob):
        cut, frames, seed = parent.frames_total, parent.frames_total + asked.frames, parent.seed
        told = asked.prompts or PromptTimeline.constant(parent.prompts.texts[-1])
    else:
        cut, frames, seed = asked.frame, parent.frames_total, parent.seed if asked.seed is None else asked.seed
        told = asked.prompts or parent.prompts.after(asked.frame)
    same = {name: getattr(parent, name) for name in ("model", "sampler", "can_turn", "fps", "width", "height")}
    prompts = spliced(parent.prompts, told, cut)
    return Job(**common, **same, prompts=prompts, seed=seed, frames_total=frames)


def _looked_at(order: Order, asked: VideoJob) -> dict[str, Any]:
    """Return what a plan says of a video, checked from end to end."""
    if asked.frames is None:
        raise QuotaError("an endless video would never make room for the next; say how many frames")
    spec = model_spec(order.model, **order.loading.told)
    plan = checked_plan(spec, order.request, order.sampler)
    order_target(order, plan)
    scale = order.output.scale
    return {
        "model": asked.model,
        "sampler": asked.sampler,
        "seed": asked.seed,
        "prompts": asked.prompts,
        "can_turn": pieces_of(plan) is not None,
        "frames_total": asked.frames,
        "fps": order.output.fps or spec.fps,
        "width": spec.width * scale,
        "height": spec.height * scale,
    }


def check_words(job: Job, told: PromptTimeline, order: Callable[[VideoJob], Order], get: Callable[[str], Job]) -> None:
    """Raise InputError for prompts that the model of a job does not know; `order` returns that of a video, `get` a
    parent."""
    root = job
    while root.parent is not None:
        try:
            root = get(root.parent)
        except UnknownJobError:
            # Its worker refuses them then, and goes on as before.
            return
    assert isinstance(root.asked, VideoJob)
    wanted = order(replace(root.asked, prompts=told, frames=job.frames_total))
    checked_plan(model_spec(wanted.model, **wanted.loading.told), wanted.request, wanted.sampler)


def steering_of(asked: ExtendJob | RedoJob, parent: Path, path: Path) -> Steering:
    """Return how the video `path` comes from that of a parent, which rests. Raises as `plan_extension` and
    `plan_redo`."""
    if isinstance(asked, ExtendJob):
        return plan_extension(parent, asked.frames, asked.prompts, path)
    return plan_redo(parent, asked.frame, asked.prompts, asked.seed, path, keep_queue=asked.keep_queue)


def rests(job: Job) -> bool:
    """Return whether nobody makes more of a video at the moment, nor soon."""
    return job.worker is None and job.status not in ("queued", "in_progress")
