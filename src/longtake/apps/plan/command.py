"""The command `longtake plan`: the arguments of a video, and for how many processes to work it out, simulated."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, Literal

from longtake.apps.arguments import given, parse_arguments
from longtake.apps.generate.job import Job, make_job
from longtake.apps.generate.settings import VideoSettings, default_method
from longtake.apps.plan.costs import Estimates, by_formula, estimate
from longtake.apps.plan.forecast import LINKS, Forecast, Link, Machines, forecast, weak_forecast
from longtake.apps.plan.view import planned, show_plan
from longtake.apps.shown import duration, say, size
from longtake.errors import InputError
from longtake.model import Continuation, Infill
from longtake.models import MODELS, configs_of
from longtake.rates import remembered_rate
from longtake.typed import Flag, Setting, Typed

AGREES = 0.1
"""How far what the plan says of a part may be from what is counted, as a share of that."""
LinkName = Literal["nvlink", "pcie", "ethernet", "ethernet100"]


@dataclass(frozen=True, kw_only=True)
class ScalingSettings(Typed):
    """Work out time, memory and traffic on many processes; simulated, nothing is run."""

    ranks: Annotated[int | None, Setting(metavar="N", unset="none")] = None
    """Also work out the video on 1, 2, 4 ... N processes; simulated, nothing is run."""
    link: LinkName = "pcie"
    """What joins them: nvlink (450 GB/s), pcie (25 GB/s), ethernet (10 Gbit/s), ethernet100 (100 Gbit/s)."""
    forward_ms: Annotated[float | None, Setting(metavar="FLOAT", unset="as measured here")] = None
    """Milliseconds of one network evaluation of one window, one branch of guidance, on one of your devices."""
    latency_us: Annotated[float | None, Setting(metavar="FLOAT", unset="the link's")] = None
    """Microseconds before a message moves."""
    bandwidth_gb: Annotated[float | None, Setting(metavar="FLOAT", unset="the link's")] = None
    """Gigabytes a second in one direction."""

    def wire(self) -> Link:
        """Return the link, with the figures that were given in place of the nominal ones."""
        nominal = LINKS[self.link]
        return Link(
            latency=nominal.latency if self.latency_us is None else self.latency_us / 1e6,
            bandwidth=nominal.bandwidth if self.bandwidth_gb is None else self.bandwidth_gb * 1e9,
            source=nominal.source,
        )

    def counts(self) -> list[int]:
        """Return the numbers of processes to work out: powers of two, and the one that was asked for."""
        assert self.ranks is not None
        powers = [2**k for k in range(self.ranks.bit_length()) if 2**k < self.ranks]
        return [*powers, self.ranks]

    @classmethod
    def options(cls) -> list[str]:
        """Return the options of the command line, --ranks first."""
        return ["--" + field.name.replace("_", "-") for field in fields(cls)]

    def check(self, given: Sequence[str]) -> None:
        """Raise InputError for numbers and times that cannot be, and for options `given` without effect."""
        idle = [option for option in self.options()[1:] if option in given]
        if self.ranks is None and idle:
            raise InputError(f"{idle[0]} has an effect only with --ranks; add it, or leave {idle[0]} out")
        if self.ranks is not None and not 1 <= self.ranks <= 4096:
            raise InputError(f"{self.ranks} processes cannot be worked out; give --ranks 1 to 4096")
        for option, value in (("--forward-ms", self.forward_ms), ("--bandwidth-gb", self.bandwidth_gb)):
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"{option} {value:g} cannot be; give a number above 0")
        if self.latency_us is not None and not 0 <= self.latency_us < float("inf"):
            raise InputError(f"--latency-us {self.latency_us:g} cannot be; give 0 or more")


@dataclass(frozen=True, kw_only=True)
class PlanSettings(Typed):
    """Say what making a video takes: windows, forwards, memory, disk, time."""

    video: Annotated[VideoSettings, Setting(name="")]
    scaling: Annotated[ScalingSettings, Setting(boxed=True)] = ScalingSettings()
    verify: Flag = False
    """Also count what the parts of the model take, on tensors without numbers; the exit status is 1 where that is more
    than a tenth from what the plan says. Takes a minute or two for a large model, and loads no weights."""


def plan_command(arguments: Sequence[str]) -> int:
    """Say what would be done, and with --ranks what it would take on many processes."""
    default, options = PlanSettings(video=VideoSettings(method=default_method(arguments))), given(arguments)
    settings = parse_arguments(PlanSettings, "plan", arguments, default=default)
    scaling, own = settings.scaling, [*ScalingSettings.options(), "--verify"]
    scaling.check(options)
    job = make_job(settings.video, [option for option in options if option not in own])
    costs = estimate(job)
    simulated = None if scaling.ranks is None else scaling_content(job, scaling, costs)
    # Of the same device as the tables; without --forward-ms that is this machine.
    is_simulated = simulated is not None and scaling.forward_ms is not None
    if simulated and is_simulated:
        costs = replace(costs, seconds=simulated["strong"][0]["seconds"], seconds_reason=None)
    content, lines = planned(job, costs, simulated=is_simulated)
    if simulated:
        content["scaling"] = simulated
        lines += scaling_lines(simulated)
    differing: list[str] = []
    if settings.verify:
        content["counted"] = counted_parts(job, costs)
        lines += counted_lines(content["counted"])
        differing = [
            part
            for part, row in content["counted"].items()
            if abs(row["formula"] - row["counted"]) > AGREES * row["counted"]
        ]
    show_plan(job, content, lines, as_json=settings.video.json)
    if differing:
        parts = ", ".join(differing)
        say(f"verify   failed: the plan is more than {AGREES:.0%} from what is counted for {parts}; tell the authors")
    return 1 if differing else 0


def counted_parts(job: Job, costs: Estimates) -> dict[str, dict[str, int]]:
    """Return of every part of a model the bytes by the formula behind the plan, and those that are counted.

    Raises InputError for a model that cannot be counted so.
    """
    order = job.order
    if order.model in MODELS and MODELS[order.model].folder is None:
        raise InputError(f"{order.model} is made by code and has no parts to count; leave --verify out")
    if job.spec.call is not None:
        raise InputError(f"{job.spec.name} is run as a whole, and its parts are not looked at; leave --verify out")
    if order.loading.quantize or order.loading.lora:
        raise InputError("--verify counts weights as they are stored; leave --quantize and --lora out")
    # These import torch and the libraries.
    import torch

    from longtake.models.hub.fake import fake_model

    model = fake_model(*configs_of(order.model, order.loading), job.spec, getattr(torch, costs.dtype))
    formula = by_formula(job.spec, job.plan, costs.width)
    counted = model.counted(job.plan, shown=not {Infill, Continuation}.isdisjoint(order.sampler.requires))
    return {part: {"formula": formula[part], "counted": found} for part, found in counted.items()}


def counted_lines(content: dict[str, dict[str, int]]) -> list[str]:
    """Return the same as a table."""
    rows = [
        (part, size(row["formula"]), size(row["counted"]), f"{row['formula'] / row['counted'] - 1:+.1%}")
        for part, row in content.items()
        if row["counted"]
    ]
    cells = [("part", "by formula", "counted", ""), *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    return ["", *("  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in cells)]


def scaling_content(job: Job, scaling: ScalingSettings, costs: Estimates) -> dict[str, Any]:
    """Return forecasts for 1, 2, 4 ... processes: of the same video (strong), and of one that grows with them (weak).

    Raises InputError where they cannot be worked out.
    """
    assert scaling.ranks is not None
    job.order.sampler.check_ranks(job.plan, scaling.ranks)
    link = scaling.wire()
    machines = Machines(link=link, forward_seconds=_forward_seconds(job, scaling, costs), width=costs.width)
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


def _forward_seconds(job: Job, scaling: ScalingSettings, costs: Estimates) -> float:
    if scaling.forward_ms is not None:
        return scaling.forward_ms / 1000
    flops = job.spec.forward_flops
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
