"""The command `longtake generate`."""

import json
from collections.abc import Sequence

from longtake.apps.arguments import given
from longtake.apps.generate.job import make_job
from longtake.apps.generate.settings import video_settings
from longtake.apps.plan.view import plan_content, plan_lines, show_plan
from longtake.apps.shown import say
from longtake.ranks.torchrun import launched


def generate_command(arguments: Sequence[str]) -> int:
    """Make a video, or say with --dry-run what would be done; return the exit status."""
    settings = video_settings(arguments)
    job = make_job(settings, given(arguments))
    if settings.dry_run:
        show_plan(job, plan_content(job), plan_lines(job), as_json=settings.json)
        return 0
    # From here on torch is needed, which takes a second to import.
    from longtake.apps.generate.run import run_job

    outcome = run_job(job)
    if outcome.line:
        say(outcome.line)
    if settings.json and not launched().rank:
        print(json.dumps(outcome.report, indent=2))
    return outcome.status
