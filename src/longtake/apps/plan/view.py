"""A plan as JSON and as text."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from longtake.apps.generate.job import Job
from longtake.apps.plan.costs import Estimates
from longtake.apps.shown import duration, say, size
from longtake.errors import CheckpointError
from longtake.ranks.torchrun import launched
from longtake.report import order_target
from longtake.samplers import pieces_of
from longtake.video.record import changed, check_length, read_record
from longtake.words import counted, plain


def plan_content(job: Job, costs: Estimates) -> dict[str, Any]:
    """Return the figures of a plan, and what it costs, as JSON has them."""
    plan = job.plan
    return {
        "model": job.order.model,
        "sampler": {"name": job.order.sampler.name, **asdict(job.order.sampler)},  # pyright: ignore[reportArgumentType]
        "frames": job.frames,
        "fps": job.fps,
        "wrap": job.order.loading.wrap,
        "forwards": plan.forwards,
        "forwards_per_frame": plan.forwards_per_frame,
        "mean_forwards_per_frame": _mean_forwards(job),
        "tasks": plan.tasks,
        "decoded": plan.decoded,
        "window_batch": plan.window_batch,
        "held_frames": plan.held_frames,
        "guidance": plan.guidance,
        "refused": _refused(job),
        **asdict(costs),
        "warnings": list(job.warnings),
    }


def planned(job: Job, costs: Estimates, *, simulated: bool = False) -> tuple[dict[str, Any], list[str]]:
    """Return `plan_content` and `plan_lines` of a video, and in both what is there of it already ("earlier")."""
    content = {**plan_content(job, costs), "earlier": (earlier := _earlier(job))}
    first, *lines = plan_lines(job, costs, content["refused"], simulated=simulated)
    told = [] if earlier is None else [f"there    {earlier}"]
    return content, [first, *told, *lines]


def _refused(job: Job) -> str | None:
    """Return why a run would be refused that makes a video again, or longer, with weights that are others now."""
    try:
        job.order.check_files()
    except CheckpointError as reason:
        return str(reason)
    return None


def _earlier(job: Job) -> str | None:
    """Return what a run has left where this video goes, in words; None for nothing."""
    path = job.output.path
    if job.output.overwrite:
        return f"{path} would be made again from the start" if path.exists() else None
    record = read_record(path)
    if record is None:
        return None
    made = counted(record.next_frame, "frame")
    # What is settled only when a model is loaded, or what a model made by code is made of.
    open_ones = {"device": job.order.device == "auto", "dtype": job.order.dtype == "auto"}
    settled = {name: record.settings.get(name) for name, is_open in open_ones.items() if is_open}
    settled["model digest"] = job.order.digest_here() or record.settings.get("model digest")
    if changes := changed(record.settings, {**order_target(job.order, job.plan).settings, **settled}):
        return (
            f"{path} has {made} of a run with other settings, so that this one would be refused: {', '.join(changes)}"
        )
    try:
        check_length(path, record)
    except CheckpointError as reason:
        return str(reason)
    if record.finished:
        return f"{path} is complete already ({made}): nothing would be done"
    return f"{path} is begun ({made}), and would go on; work and cost here are of the whole video"


def show_plan(job: Job, content: dict[str, Any], lines: Sequence[str], *, as_json: bool) -> None:
    """Print a plan, once however many processes were started."""
    if launched().rank:
        return
    for warning in job.warnings:
        say(f"warning: {warning}")
    print(json.dumps(content, indent=2) if as_json else "\n".join(map(plain, lines)))


def plan_lines(job: Job, costs: Estimates, refused: str | None, *, simulated: bool = False) -> list[str]:
    """Return the plan for people, a line each: what is made, the work, the cost, the prompts.

    `refused` is why the run would be, as `plan_content` says; `simulated`: whether the time is that of a forecast.
    """
    sizes = {"memory": costs.memory_by_part, "host": costs.host_by_part, "disk": costs.disk_by_part}
    parts = [f"{name:8} {_parts(by_part)}" for name, by_part in sizes.items() if by_part]
    offload = [] if costs.offload == "none" else [f"offload  {_offload(costs)}"]
    if job.order.loading.offload == "auto":
        offload = ["offload  auto takes the first of none, text, model and group that fits what is free when it starts"]
    cost = _cost(costs, " on one process, as simulated below" if simulated else "")
    told = [] if refused is None else [f"refused  {refused}"]
    lines = [*headline(job), *told, f"cost     {cost}", *offload, *parts, *_states(job, costs)]
    return [*lines, *prompt_lines(job)]


def _states(job: Job, costs: Estimates) -> list[str]:
    """Return the line that says how far back a redo can go."""
    if job.frames is None or pieces_of(job.plan) is None:
        return []
    total, count = job.frames // job.output.segment, costs.kept_states
    if not count:
        return ["states   none are kept: a redo makes everything before its moment again"]
    if count == total:
        far = "1 is" if total == 1 else f"all {total} are"
    else:
        far = f"{count} of {total}, dense near the end, {'is' if count == 1 else 'are'}"
    return [
        f"states   {far} kept ({size(costs.disk_by_part['kept states'])} at most): a redo makes again what lies "
        "between its moment and the one before"
    ]


def headline(job: Job) -> list[str]:
    """Return the lines that say what is made, by what, with how much work."""
    spec, plan, request = job.spec, job.plan, job.order.request
    length = "endless" if job.frames is None else f"{counted(job.frames, 'frame')} ({duration(job.frames / job.fps)})"
    height, width = spec.height * job.output.scale, spec.width * job.output.scale
    seeds = ", then ".join(str(seed) for seed, _ in groupby([request.seed, *(turn.seed for turn in request.turns)]))
    joined = " whose sides meet" if job.order.loading.wrap else ""
    mean, further = _mean_forwards(job), f"{round(plan.forwards_per_frame, 3):g}"
    if mean is None or plan.forwards is None or plan.tasks is None:
        work = f"{further} forwards per frame"
    else:
        shown = f"{round(mean, 3):g}"
        each = f"{shown} per frame" if shown == further else f"{shown} per frame, {further} in the long run"
        tasks = counted(plan.tasks, plan.settings.task)
        work = f"{counted(math.ceil(plan.forwards), 'forward')} in {tasks} ({each})"
    return [
        f"video    {length}, {width}x{height}{joined}, {job.fps:g} frames/s -> {job.output.path}",
        f"model    {spec.name}: {spec.num_frames} frames a window, guidance {plan.guidance:g}, seed {seeds}",
        f"sampler  {job.order.sampler.name} ({_changed(job)}): {work}",
    ]


def _mean_forwards(job: Job) -> float | None:
    """Return all forwards over all frames; of a plan's own figure, what begins and ends a video is no part."""
    return None if job.frames is None or job.plan.forwards is None else job.plan.forwards / job.frames


def _changed(job: Job) -> str:
    default = type(job.order.sampler)()
    changed = {
        name: value
        for name, value in asdict(job.order.sampler).items()  # pyright: ignore[reportArgumentType]
        if value != getattr(default, name)
    }
    return ", ".join(f"{name}={_short(str(value))}" for name, value in changed.items()) or "its defaults"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _cost(costs: Estimates, where: str) -> str:
    known = None if costs.seconds is None else f"about {duration(costs.seconds)}{where}"
    time = known or f"time unknown: {costs.seconds_reason}"
    disk = "" if costs.disk_bytes is None else f", at most {size(costs.disk_bytes)} of disk"
    return f"{time}; about {size(costs.peak_memory_bytes)} of memory{disk} ({costs.device}, {costs.dtype})"


def _offload(costs: Estimates) -> str:
    which = {
        "text": "the text encoder comes in when it is called",
        "model": "one part at a time is in",
        "group": "the blocks of the network come in one after the other",
    }[costs.offload]
    moved = costs.offload_traffic_bytes
    traffic = "" if moved is None else f", {size(moved)} at most come and go"
    return f"{which}{traffic}; with --offload none {size(costs.peak_without_offload_bytes)} of memory"


def _parts(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size(value)}" for name, value in sizes.items() if value)


def prompt_lines(job: Job) -> list[str]:
    """Return the prompts, a line each."""
    spans = job.prompts.spans(job.frames)
    return [
        f"{'prompts' if not number else '':8} {start}-{'' if stop is None else stop}: {text}"
        for number, (start, stop, text) in enumerate(spans)
    ]
