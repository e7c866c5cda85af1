"""A plan as JSON and as text."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from longtake.apps.estimates import Estimates, estimate
from longtake.apps.job import Job
from longtake.apps.words import duration, size


def plan_content(job: Job) -> dict[str, Any]:
    """Return the figures of a plan as JSON has them."""
    plan = job.plan
    return {
        "model": job.order.model,
        "sampler": {"name": job.order.sampler.name, **asdict(job.order.sampler)},  # pyright: ignore[reportArgumentType]
        "frames": job.frames,
        "fps": job.output.fps or job.spec.fps,
        "forwards": plan.forwards,
        "forwards_per_frame": plan.forwards_per_frame,
        "tasks": plan.tasks,
        "decoded": plan.decoded,
        "window_batch": plan.window_batch,
        "held_frames": plan.held_frames,
        "guidance": plan.guidance,
        **asdict(estimate(job)),
        "warnings": list(job.warnings),
    }


def plan_lines(job: Job) -> list[str]:
    """Return the plan for people, a line each: what is made, the work, the cost, the prompts."""
    costs = estimate(job)
    sizes = {"memory": costs.memory_by_part, "disk": costs.disk_by_part}
    parts = [f"{name:8} {_parts(by_part)}" for name, by_part in sizes.items() if by_part]
    return [*headline(job), f"cost     {_cost(costs)}", *parts, *_prompts(job)]


def headline(job: Job) -> list[str]:
    """Return the lines that say what is made, by what, with how much work."""
    spec, plan, request = job.spec, job.plan, job.order.request
    rate = job.output.fps or spec.fps
    length = "endless" if job.frames is None else f"{job.frames} frames ({duration(job.frames / rate)})"
    height, width = spec.height * job.output.scale, spec.width * job.output.scale
    work = f"{plan.forwards_per_frame:g} forwards per frame"
    if plan.forwards is not None:
        work = f"{plan.forwards:,} forwards in {plan.tasks:,} windows ({plan.forwards_per_frame:g} per frame)"
    return [
        f"video    {length}, {width}x{height}, {rate:g} frames/s -> {job.output.path}",
        f"model    {spec.name}: {spec.num_frames} frames a window, guidance {plan.guidance:g}, seed {request.seed}",
        f"sampler  {job.order.sampler.name} ({_changed(job)}): {work}",
    ]


def _changed(job: Job) -> str:
    default = type(job.order.sampler)()
    changed = {
        name: value
        for name, value in asdict(job.order.sampler).items()  # pyright: ignore[reportArgumentType]
        if value != getattr(default, name)
    }
    return ", ".join(f"{name}={value}" for name, value in changed.items()) or "its defaults"


def _cost(costs: Estimates) -> str:
    time = f"time unknown: {costs.seconds_reason}" if costs.seconds is None else f"about {duration(costs.seconds)}"
    disk = "" if costs.disk_bytes is None else f", about {size(costs.disk_bytes)} of disk"
    return f"{time}; about {size(costs.peak_memory_bytes)} of memory{disk} ({costs.device}, {costs.dtype})"


def _parts(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size(value)}" for name, value in sizes.items() if value)


def _prompts(job: Job) -> list[str]:
    spans = job.prompts.spans(job.frames)
    return [
        f"{'prompts' if not number else '':8} {start}-{'' if stop is None else stop}: {text}"
        for number, (start, stop, text) in enumerate(spans)
    ]
