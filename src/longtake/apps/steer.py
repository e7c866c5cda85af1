"""The commands `longtake extend` and `longtake redo`: a video that is there goes on, or becomes another."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from longtake.apps.arguments import Answer, parse_arguments
from longtake.apps.generate.command import run_job
from longtake.apps.generate.job import Job, checked_job
from longtake.apps.plan.costs import Estimates, estimate
from longtake.apps.plan.view import plan_content, plan_lines, show_plan
from longtake.apps.shown import duration, say, size
from longtake.errors import InputError
from longtake.models import DEFAULT_MODEL, canonical, model_spec
from longtake.ranks.torchrun import launched
from longtake.report import Order
from longtake.request import PromptTimeline, Request
from longtake.samplers import DEFAULT_SAMPLER, pieces_of, sampler_class
from longtake.steer.plan import Steering, plan_extension, plan_redo
from longtake.steer.video import find_video
from longtake.typed import Flag, Setting
from longtake.words import counted


@dataclass(frozen=True, kw_only=True)
class SteerSettings(Answer):
    """What both commands take."""

    file: Annotated[str | None, Setting(positional=True, metavar="FILE")] = None
    """The video."""
    prompts: Annotated[str | None, Setting(metavar="FILE|TEXT", unset="as before")] = None
    """What the new frames show: one prompt, or several in the spellings of generate, counted from the first of them."""
    output: Annotated[str | None, Setting(short="-o", metavar="PATH", unset="FILE itself")] = None
    """A new video, which shares the frames that stay; FILE is left as it is."""
    dry_run: Flag = False
    """Only say from where it would go on, and what would be made."""


@dataclass(frozen=True, kw_only=True)
class ExtendSettings(SteerSettings):
    """Make a video longer. The same command continues an interrupted extension."""

    frames: Annotated[int | None, Setting(metavar="N", unset="has to be given")] = None
    """How many frames to add."""
    model: Annotated[str | None, Setting(metavar="NAME|FOLDER", unset="FILE's own")] = None
    """Who goes on with a video of other origin, of which only the last frames are taken."""
    sampler: Annotated[str | None, Setting(metavar="NAME", unset="FILE's own")] = None
    """And by which method."""


@dataclass(frozen=True, kw_only=True)
class RedoSettings(SteerSettings):
    """Make a video otherwise from a frame on. The same command continues an interrupted one."""

    start: Annotated[str | None, Setting(name="from", metavar="12s|FRAME", unset="has to be given")] = None
    """Where it becomes another: seconds, a clock (1:30), or the number of a frame."""
    seed: Annotated[int | None, Setting(metavar="INT", unset="as before")] = None
    """What makes the new frames others under the same prompts."""
    keep_queue: Flag = False
    """Let fifo go on with the frames that are half made there, so that new prompts take hold softly."""


def extend_command(arguments: Sequence[str]) -> int:
    """Make a video longer; return the exit status."""
    settings = parse_arguments(ExtendSettings, "extend", arguments)
    file = _file(settings)
    if settings.frames is None:
        raise InputError("how much longer is missing; give --frames, as many as are to be added")
    other = _other(settings, file)
    steering = plan_extension(file, settings.frames, settings.prompts, settings.output, other)
    return _carried_out(steering, settings)


def redo_command(arguments: Sequence[str]) -> int:
    """Make a video otherwise from a frame on; return the exit status."""
    settings = parse_arguments(RedoSettings, "redo", arguments)
    file = _file(settings)
    if settings.start is None:
        raise InputError("from where is missing; give --from, a frame or a time such as 12s")
    video = find_video(file)
    frame = moment(settings.start, 1.0 if video is None else video.fps)
    seed, keep = settings.seed, settings.keep_queue
    return _carried_out(plan_redo(file, frame, settings.prompts, seed, settings.output, keep_queue=keep), settings)


def moment(text: str, fps: float) -> int:
    """Return the frame that a time or a number names. Raises InputError for anything else."""
    if found := re.fullmatch(r"(?:(\d{1,12}):)?(\d{1,12}):(\d\d(?:\.\d+)?)", text, re.ASCII):
        return round((int(found[1] or 0) * 3600 + int(found[2]) * 60 + float(found[3])) * fps)
    if found := re.fullmatch(r"(\d{1,12}(?:\.\d+)?)s", text, re.ASCII):
        return round(float(found[1]) * fps)
    if re.fullmatch(r"\d{1,12}", text, re.ASCII):
        return int(text)
    raise InputError(f"--from {text!r} is no moment; write seconds (12s), a clock (1:30), or the number of a frame")


def _file(settings: SteerSettings) -> str:
    if launched().size > 1:
        raise InputError("one process steers a video; start the command without torchrun")
    if settings.file is None:
        raise InputError("which video is missing; give its file")
    return settings.file


def _other(settings: ExtendSettings, file: str) -> Order | None:
    """Return who goes on with a video of other origin."""
    if settings.model is None and settings.sampler is None:
        return None
    if find_video(file) is not None:
        raise InputError(f"{file} goes on by its own model and sampler; leave --model and --sampler out")
    if settings.prompts is None:
        raise InputError(f"nothing says what {file} shows; give --prompts")
    return Order(
        model=canonical(settings.model or DEFAULT_MODEL),
        request=Request(prompts=PromptTimeline.constant("what --prompts says")),
        sampler=sampler_class(settings.sampler or DEFAULT_SAMPLER)(),
    )


def _carried_out(steering: Steering, settings: SteerSettings) -> int:
    order = steering.order
    job = checked_job(order, model_spec(order.model, **order.loading.told), prompts_file=None)
    if settings.dry_run:
        states = steering.video.states(None) if steering.video else []
        costs = estimate(job, max((state.bytes for state in states), default=None))
        left, plan = _left(job, steering, costs), plan_content(job, costs)
        content = {**plan, "steering": {**_content(steering), **asdict(left)}}
        shown = plan_lines(job, costs, plan["refused"])
        still = [] if left.forwards_left is None else [f"left     {left}; work and cost here are of the whole video"]
        show_plan(job, content, [*shown[:3], *steering_lines(steering), *still, *shown[3:]], as_json=settings.json)
        return 0
    for line in steering_lines(steering):
        say(line)
    outcome = run_job(job, steering)
    if outcome.line:
        say(outcome.line)
    if settings.json:
        print(json.dumps(outcome.report, indent=2))
    return outcome.status


def steering_lines(steering: Steering) -> list[str]:
    """Return from where a video goes on, in lines for people."""
    notes = [f"note     {note}" for note in steering.notes]
    if steering.video is None:
        return notes
    if steering.under_way:
        return ["steer    an earlier call has begun it, and it goes on"]
    start, made = steering.made_from, steering.video.record.next_frame
    whole = steering.state.stored if steering.state else 0
    again = f", which makes {counted(made - start, 'frame')} again" if made > start else ""
    stays = f"the first {whole} stay as they are stored" if whole else "none stays as it is stored"
    lines = [f"steer    from frame {start} on{again}; {stays}"]
    before, after = steering.video.order.frames, steering.order.frames
    if before is not None and after is not None and after > before:
        so_far = f"{made} of its {before} frames are made" if made < before else f"it has {counted(before, 'frame')}"
        lines.insert(0, f"target   {so_far}; with {after - before} more it goes on to {after}")
    if steering.holds is not None:
        frames = steering.order.frames
        late = "" if frames is None or steering.holds < frames else f", after the end: the video has {frames}"
        lines.append(f"prompts  hold fully from about frame {steering.holds} on{late}")
    if steering.dissolves:
        notes.insert(
            0,
            f"note     {steering.order.sampler.name} dissolves from one scene into the other, and the old object may "
            "stay, even to the end; a clean cut is what 'longtake generate' makes of the whole story, begun anew",
        )
    states = steering.video.states(None)
    if states:
        kept = f"{counted(len(states), 'state')}, {size(sum(state.bytes for state in states))}"
        at = f"frame{'s' * (len(states) > 1)} {_places([state.next_frame for state in states])}"
        lines.append(f"kept     {kept}, at {at}; what lies between is made again from the one before")
    return [*lines, *notes]


@dataclass(frozen=True, kw_only=True)
class _Left:
    """About how much of the work of a whole video is left; None where its length or its pieces do not tell."""

    forwards_left: int | None = None
    seconds_left: float | None = None
    """None, too, where the machine has not shown its rate."""

    def __str__(self) -> str:
        time = "" if self.seconds_left is None else f", {duration(self.seconds_left)}"
        return f"about {self.forwards_left:,} forwards{time}"


def _left(job: Job, steering: Steering, costs: Estimates) -> _Left:
    if steering.video is None or job.frames is None or pieces_of(job.plan) is None:
        return _Left()
    frames = job.frames - steering.made_from
    return _Left(
        forwards_left=round(frames * job.plan.forwards_per_frame),
        seconds_left=None if costs.seconds is None else costs.seconds * frames / job.frames,
    )


def _places(frames: Sequence[int]) -> str:
    shown = [str(frame) for frame in frames]
    return " ".join(shown if len(shown) <= 9 else [*shown[:4], "...", *shown[-4:]])


def _content(steering: Steering) -> dict[str, Any]:
    states = [] if steering.video is None else steering.video.states(None)
    return {
        "from": steering.made_from,
        "stored": steering.state.stored if steering.state else 0,
        "under_way": steering.under_way,
        "holds": steering.holds,
        "dissolves": steering.dissolves,
        "states": [asdict(state) for state in states],
        "notes": list(steering.notes),
    }
