"""The arguments of `longtake plan`: those of a video, and for how many processes to work it out."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Generic, Literal

from tyro.conf import arg

from longtake.apps.arguments import parse_arguments
from longtake.apps.settings import AnySampler, VideoSettings, default_settings
from longtake.errors import InputError
from longtake.forecast.scaling import LINKS, Link
from longtake.sampler import Sampler

LinkName = Literal["nvlink", "pcie", "ethernet", "ethernet100"]


@dataclass(frozen=True, kw_only=True)
class ScalingSettings:
    """Work out time, memory and traffic on many processes; simulated, nothing is run."""

    ranks: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Also work out the video on 1, 2, 4 ... N processes; simulated, nothing is run."""
    link: LinkName = "pcie"
    """What joins them: nvlink (450 GB/s), pcie (25 GB/s), ethernet (10 Gbit/s), ethernet100 (100 Gbit/s)."""
    forward_ms: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="(default: as measured here)")] = None
    """Milliseconds of one network evaluation of one window, one branch of guidance, on one of your devices."""
    latency_us: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="(default: the link's)")] = None
    """Microseconds before a message moves."""
    bandwidth_gb: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="(default: the link's)")] = None
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


@dataclass(frozen=True, kw_only=True)
class PlanSettings(Generic[AnySampler]):
    """Say what making a video takes: windows, forwards, memory, disk, time."""

    video: Annotated[VideoSettings[AnySampler], arg(name="")]
    scaling: Annotated[ScalingSettings, arg(name="")]


OPTIONS = tuple(f"--{field.name.replace('_', '-')}" for field in fields(ScalingSettings))
"""The options that only `longtake plan` has."""


def plan_settings(arguments: Sequence[str], given: Sequence[str]) -> PlanSettings[Sampler]:
    """Read the arguments of `longtake plan`; `given`: the options among them.

    Raises InputError as `video_settings` does, and for numbers of processes and times that cannot be.
    """
    default = default_settings(arguments)
    settings = parse_arguments(
        PlanSettings[type(default.method)],
        "plan",
        arguments,
        default=PlanSettings(video=default, scaling=ScalingSettings()),
    )
    _check(settings.scaling, given)
    return settings


def _check(scaling: ScalingSettings, given: Sequence[str]) -> None:
    idle = [option for option in OPTIONS[1:] if option in given]
    if scaling.ranks is None and idle:
        raise InputError(f"{idle[0]} has an effect only with --ranks; add it, or leave {idle[0]} out")
    if scaling.ranks is not None and not 1 <= scaling.ranks <= 4096:
        raise InputError(f"{scaling.ranks} processes cannot be worked out; give --ranks 1 to 4096")
    for option, value in (("--forward-ms", scaling.forward_ms), ("--bandwidth-gb", scaling.bandwidth_gb)):
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{option} {value:g} cannot be; give a number above 0")
    if scaling.latency_us is not None and not 0 <= scaling.latency_us < float("inf"):
        raise InputError(f"--latency-us {scaling.latency_us:g} cannot be; give 0 or more")
