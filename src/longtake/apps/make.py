"""`longtake generate` and `longtake plan`."""

import json
import sys
from collections.abc import Sequence

from longtake.apps.arguments import given
from longtake.apps.job import Job, make_job
from longtake.apps.plan_view import plan_content, plan_lines
from longtake.apps.settings import video_settings


def generate_command(arguments: Sequence[str]) -> int:
    """Make a video, or say with --dry-run what would be done; return the exit status."""
    return _command("generate", arguments, dry_run=False)


def plan_command(arguments: Sequence[str]) -> int:
    """Say what would be done."""
    return _command("plan", arguments, dry_run=True)


def _command(name: str, arguments: Sequence[str], *, dry_run: bool) -> int:
    settings = video_settings(name, arguments)
    job = make_job(settings, given(arguments))
    if not (dry_run or settings.dry_run):
        return _make(job, as_json=settings.json)
    for warning in job.warnings:
        _say(f"warning: {warning}")
    if settings.json:
        print(json.dumps(plan_content(job), indent=2))
    else:
        print("\n".join(plan_lines(job)))
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _make(job: Job, *, as_json: bool) -> int:
    """Make the video of a checked job."""
    # From here on torch is needed, which takes a second to import.
    from longtake.apps.run import run_job

    outcome = run_job(job, _say)
    _say(outcome.line)
    if as_json:
        print(json.dumps(outcome.report, indent=2))
    return outcome.status
