"""The command `longtake plan`: the arguments of a video, and for how many processes to work it out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from longtake.apps.arguments import given, parse_arguments
from longtake.apps.generate.job import make_job
from longtake.apps.generate.settings import VideoSettings, default_settings
from longtake.apps.plan.scaling import ScalingSettings, scaling_content, scaling_lines
from longtake.apps.plan.view import plan_content, plan_lines, show_plan
from longtake.typed import Setting


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """Say what making a video takes: windows, forwards, memory, disk, time."""

    video: Annotated[VideoSettings, Setting(name="")]
    scaling: Annotated[ScalingSettings, Setting(boxed=True)] = ScalingSettings()


def plan_command(arguments: Sequence[str]) -> int:
    """Say what would be done, and with --ranks what it would take on many processes."""
    default, options = PlanSettings(video=default_settings(arguments)), given(arguments)
    settings = parse_arguments(PlanSettings, "plan", arguments, default=default)
    scaling, own = settings.scaling, ScalingSettings.options()
    scaling.check(options)
    job = make_job(settings.video, [option for option in options if option not in own])
    content, lines = plan_content(job), plan_lines(job)
    if scaling.ranks is not None:
        content["scaling"] = scaling_content(job, scaling)
        lines += scaling_lines(content["scaling"])
    show_plan(job, content, lines, as_json=settings.video.json)
    return 0
