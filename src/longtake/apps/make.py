"""`longtake generate` and `longtake plan`."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from longtake.apps.arguments import given
from longtake.apps.job import Job, make_job
from longtake.apps.plan_view import plan_content, plan_lines
from longtake.apps.scaling_settings import OPTIONS, plan_settings
from longtake.apps.scaling_view import scaling_content, scaling_lines
from longtake.apps.settings import video_settings
from longtake.ranks.torchrun import launched


def generate_command(arguments: Sequence[str]) -> int:
    """Make a video, or say with --dry-run what would be done; return the exit status."""
    settings = video_settings("generate", arguments)
    job = make_job(settings, given(arguments))
    if not settings.dry_run:
        return _make(job, as_json=settings.json)
    _show(job, plan_content(job), plan_lines(job), as_json=settings.json)
    return 0


def plan_command(arguments: Sequence[str]) -> int:
    """Say what would be done, and with --ranks what it would take on many processes."""
    options = given(arguments)
    settings = plan_settings(arguments, options)
    job = make_job(settings.video, [option for option in options if option not in OPTIONS])
    content, lines = plan_content(job), plan_lines(job)
    if settings.scaling.ranks is not None:
        content["scaling"] = scaling_content(job, settings.scaling)
        lines += scaling_lines(content["scaling"])
    _show(job, content, lines, as_json=settings.video.json)
    return 0


def _show(job: Job, content: dict[str, Any], lines: Sequence[str], *, as_json: bool) -> None:
    if launched().rank:
        return
    for warning in job.warnings:
        _say(f"warning: {warning}")
    print(json.dumps(content, indent=2) if as_json else "\n".join(lines))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _make(job: Job, *, as_json: bool) -> int:
    """Make the video of a checked job."""
    # From here on torch is needed, which takes a second to import.
    from longtake.apps.run import run_job

    outcome = run_job(job, _say)
    if outcome.line:
        _say(outcome.line)
    if as_json and not launched().rank:
        print(json.dumps(outcome.report, indent=2))
    return outcome.status
