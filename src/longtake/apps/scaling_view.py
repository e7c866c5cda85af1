"""A plan on many processes, as JSON and as text: simulated, nothing is run."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from longtake.apps.estimates import estimate
from longtake.apps.job import Job
from longtake.apps.rates import remembered_rate
from longtake.apps.scaling_settings import ScalingSettings
from longtake.apps.words import duration, size
from longtake.errors import InputError
from longtake.forecast.scaling import Forecast, Machines, forecast, weak_forecast

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def scaling_content(job: Job, scaling: ScalingSettings) -> dict[str, Any]:
    """Return forecasts for 1, 2, 4 ... processes: of the same video (strong), and of one that grows with them (weak).

    Raises InputError where they cannot be worked out.
    """
    assert scaling.ranks is not None
    job.order.sampler.check_ranks(job.plan, scaling.ranks)
    link = scaling.wire()
    machines = Machines(link=link, forward_seconds=_forward_seconds(job, scaling), width=BYTES[estimate(job).dtype])
    sampler, counts = job.order.sampler, scaling.counts()
    strong = [forecast(sampler, job.plan, ranks, machines) for ranks in counts]
    weak = [weak_forecast(sampler, job.plan, ranks, machines) for ranks in counts]
    return {
        "simulated": True,
        "link": {"name": scaling.link, **asdict(link)},
        "forward_seconds": machines.forward_seconds,
        "strong": [_row(job, row) for row in strong],
        "weak": [_row(job, row) for row in weak],
    }


def scaling_lines(content: dict[str, Any]) -> list[str]:
    """Return the same as two tables."""
    link: dict[str, Any] = content["link"]
    speed = f"{link['latency'] * 1e6:g} us and {link['bandwidth'] / 1e9:g} GB/s"
    forward = f"{content['forward_seconds'] * 1e3:.3g} ms a forward"
    return [
        f"scaling  simulated, not measured: {forward}, {link['name']} ({speed}), messages never hidden",
        *_table("the same video", content["strong"]),
        *_table("a video that grows with the processes", content["weak"]),
    ]


def _forward_seconds(job: Job, scaling: ScalingSettings) -> float:
    if scaling.forward_ms is not None:
        return scaling.forward_ms / 1000
    costs, flops = estimate(job), job.spec.forward_flops
    rate = remembered_rate(job.order.model, costs.device, costs.dtype)
    if rate is None or flops is None:
        raise InputError(
            f"how long one forward of {job.spec.name} takes is not known here; give --forward-ms, "
            "the milliseconds of one window and one branch of guidance on your device"
        )
    return flops / rate


def _row(job: Job, row: Forecast) -> dict[str, Any]:
    """Return a forecast, with the memory of the process that holds most."""
    part = replace(
        job.plan, held_frames=row.held_frames, window_batch=row.window_batch, window_frames=row.window_frames
    )
    return {**asdict(row), "peak_memory_bytes": estimate(replace(job, plan=part)).peak_memory_bytes}


def _table(title: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    head = ("processes", "frames", "step", "talking", "video", "memory", "messages", "sent a step", "efficiency")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    table = ["  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in lines]
    return ["", f"{title}:", *table]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{row['ranks']}",
        f"{row['frames']:,}",
        f"{row['step_seconds']:.3g} s",
        f"{row['communication']:.1%}",
        duration(row["seconds"]),
        size(row["peak_memory_bytes"]),
        f"{row['messages']:,}",
        size(row["bytes"]),
        f"{row['efficiency']:.0%}",
    )
