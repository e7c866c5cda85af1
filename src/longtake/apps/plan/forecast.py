"""How a sampler's time, traffic and memory change with the number of processes: a model, not a measurement.

A step of a process takes its share of the network evaluations, plus `latency` for every message and bytes over
`bandwidth`. Nothing is taken off for messages that travel while the process computes, and nothing is added for a
process that waits for a slower one; decoding and the text encoder are left out.
"""

from dataclasses import dataclass, replace

from longtake.errors import InputError
from longtake.lazy import named
from longtake.sampler import Plan, Sampler
from longtake.samplers import SAMPLERS
from longtake.samplers.workload import Load, Sent, Workload


@dataclass(frozen=True, kw_only=True)
class Link:
    """What carries messages between two processes, each with a link of its own."""

    latency: float
    """Seconds before a message moves, software included."""
    bandwidth: float
    """Bytes a second, in one direction."""
    source: str
    """Where the figures come from."""

    def seconds(self, sent: Sent) -> float:
        """Return how long these messages take one after the other; sending and receiving go on at once."""
        messages = max(sent.messages, sent.received_messages)
        return messages * self.latency + max(sent.bytes, sent.received_bytes) / self.bandwidth


# Nominal figures of data sheets; a latency is that of a small point-to-point message through NCCL or TCP, rounded.
LINKS: dict[str, Link] = {
    "nvlink": Link(latency=10e-6, bandwidth=450e9, source="NVLink 4 of an H100: 900 GB/s, half of it each way"),
    "pcie": Link(latency=15e-6, bandwidth=25e9, source="PCIe 4.0 x16: 31.5 GB/s each way, about 25 in practice"),
    "ethernet": Link(latency=50e-6, bandwidth=1.25e9, source="10 Gbit/s Ethernet, TCP"),
    "ethernet100": Link(latency=30e-6, bandwidth=12.5e9, source="100 Gbit/s Ethernet, TCP"),
}


@dataclass(frozen=True, kw_only=True)
class Forecast(Load):
    """What a video costs on so many processes, and the load of that which holds most."""

    ranks: int
    frames: int
    """Pixel frames of the video."""
    step_seconds: float
    """A step of the slowest process: a denoising step of a clip method, an iteration of a queue."""
    communication: float
    """Share of that which messages take."""
    seconds: float
    """The whole video."""
    messages: int
    """Sent in a step by the process that sends most."""
    bytes: int
    """Sent in a step by the process that sends most."""
    efficiency: float
    """Speed over that of one process, per process."""


@dataclass(frozen=True, kw_only=True)
class Machines:
    """Where a video is made."""

    link: Link
    forward_seconds: float
    """One network evaluation of one window of the model's own length, one branch of guidance, on one process."""
    width: int
    """Bytes of a number that the network computes with."""


def forecast(sampler: Sampler, plan: Plan, ranks: int, machines: Machines) -> Forecast:
    """Work out a plan on `ranks` processes; the efficiency is that of the same video on one.

    Raises InputError for plans without an end, and for samplers of which this is not known.
    """
    alone, shared = (_forecast(sampler, plan, count, machines) for count in (1, ranks))
    return replace(shared, efficiency=alone.seconds / (ranks * shared.seconds))


def weak_forecast(sampler: Sampler, plan: Plan, ranks: int, machines: Machines) -> Forecast:
    """Work out a video that is `ranks` times as long on `ranks` processes; otherwise as `forecast`."""
    assert plan.request.frames is not None
    longer = replace(plan.request, frames=plan.request.frames * ranks)
    return forecast(sampler, sampler.plan(longer, plan.spec), ranks, machines)


def _forecast(sampler: Sampler, plan: Plan, ranks: int, machines: Machines) -> Forecast:
    frames = plan.request.frames
    if frames is None:
        raise InputError("an endless video has no time to tell; give --frames a number beside --ranks")
    sampler.check_ranks(plan, ranks)
    workload = _workload(sampler, plan, ranks, machines.width)
    forward, link = machines.forward_seconds, machines.link
    times = [(work.evaluations * forward, link.seconds(work.sent)) for work in workload.ranks]
    slowest = max(times, key=sum)
    return Forecast(
        ranks=ranks,
        frames=frames,
        step_seconds=sum(slowest),
        communication=slowest[1] / sum(slowest),
        seconds=workload.steps * sum(slowest) + workload.first * forward,
        messages=max(work.sent.messages for work in workload.ranks),
        bytes=max(work.sent.bytes for work in workload.ranks),
        held_frames=max(work.held_frames for work in workload.ranks),
        window_batch=max(work.window_batch for work in workload.ranks),
        window_frames=max(work.window_frames for work in workload.ranks),
        efficiency=1.0,
    )


def _workload(sampler: Sampler, plan: Plan, ranks: int, width: int) -> Workload:
    known = {name: entry.workload for name, entry in SAMPLERS.items() if entry.workload}
    if sampler.name not in known:
        raise InputError(
            f"what {sampler.name} sends is not known, only what {' and '.join(known)} do; leave --ranks out"
        )
    return named(known[sampler.name])(plan, ranks, width)
