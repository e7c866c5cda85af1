"""The command `longtake compare`: the same videos by several samplers, as ordinary runs that can be continued, measured
and put on one page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from longtake.apps.arguments import parse_arguments
from longtake.apps.batch import (
    Manifest,
    Progress,
    Seeds,
    Turns,
    introduction,
    make_videos,
    manifest_path,
    numbered,
    read_stories,
    say_stopped,
)
from longtake.apps.compare.contenders import Budget, Contender, budget, equalised, read_contenders
from longtake.apps.compare.page import Page, Table, rendered
from longtake.apps.compare.report import Measuring, asked_metrics, check_library, command_line, facts, write_page
from longtake.apps.generate.command import settled
from longtake.apps.generate.job import Job, checked_job, ordered
from longtake.apps.generate.settings import Making, Weights
from longtake.apps.generate.stopping import Stop, StoppedError, stoppable
from longtake.apps.plan.costs import estimate
from longtake.apps.shown import duration, print_table, say
from longtake.errors import InputError, OutputError
from longtake.models import load_model, model_spec
from longtake.models.hub.precision import choose_hardware
from longtake.ranks.torchrun import launched
from longtake.rates import remembered_rate
from longtake.reading import folder_above, read_file, refuse_file, refuse_lost_link, refuse_name, refuse_unwritable
from longtake.report import Order, order_content
from longtake.request import PromptTimeline, Request
from longtake.steer.video import order_settings
from longtake.typed import Flag, Setting, read_typed
from longtake.video.output import Output, refuse_inputs
from longtake.video.record import check_settings, read_record
from longtake.words import counted

RESULTS, PAGE = "results.json", "report.html"
_UNREAD = PromptTimeline.constant("what --prompts says")


@dataclass(frozen=True, kw_only=True)
class CompareSettings(Measuring, Seeds, Weights):
    """Make the same videos by several samplers, measure them, and put them on one page, DIR/report.html. Every video is
    what 'longtake generate' would write. The same command continues an interrupted comparison."""

    request: Annotated[Request, Setting(boxed=True)] = Request(prompts=_UNREAD)
    samplers: Annotated[str, Setting(metavar="NAME,NAME")] = "fifo,chunked"
    """What is compared; settings follow a name with colons, steps among them: fifo:partitions=2,chunked:steps=50."""
    prompts: Annotated[str, Setting(metavar="FILE")] = ""
    """A file with a prompt a line; "a | b" on one line are two in turn."""
    output: Annotated[Path, Setting(short="-o", metavar="DIR")] = Path("compared")
    """A folder for the videos, results.json and report.html."""
    equal_budget: Flag = False
    """Choose steps by which all take the same floating-point operations, within 5 %."""
    dry_run: Flag = False
    """Only show the plan."""
    overwrite: Flag = False
    """Start again where another comparison has written."""


def compare_command(arguments: Sequence[str]) -> int:
    """Make, measure and show the videos; return the exit status."""
    settings = parse_arguments(CompareSettings, "compare", arguments)
    check_library()
    metrics = asked_metrics(settings.metrics)
    runs, table, earlier = _planned(settings)
    first = launched().rank == 0
    for run in runs if first else ():
        for warning in run.job.warnings:
            say(f"warning: {run.contender.label}: {warning}")
    if first:
        print_table(table.columns, table.rows)
    # How long it takes is a guess that changes with every run of this machine.
    table = Table(columns=table.columns[:-1], rows=[row[:-1] for row in table.rows])
    if settings.dry_run:
        return 0
    manifests: list[Manifest] = []
    with stoppable() as stop:
        try:
            _make(settings, runs, manifests, stop)
            if not first:
                return 0
            page = _measured(settings, runs, table, metrics, earlier, arguments, stop)
        except StoppedError as stopped:
            if first:
                there, total = sum(len(one.lines) for one in manifests), sum(len(run.orders) for run in runs)
                say_stopped(stopped, there, total)
            return stopped.status
    write_page(settings.output / PAGE, rendered(page))
    if settings.json:
        print((settings.output / RESULTS).read_text(encoding="utf-8"))
    return 0


@dataclass(frozen=True, kw_only=True)
class _Run:
    """All videos of a contender."""

    contender: Contender
    job: Job
    """The first of them, checked from end to end."""
    orders: list[Order]


@dataclass(frozen=True, kw_only=True)
class _Row:
    """What `as_json` has left of a video."""

    longtake: str
    file: str
    sha256: str | None
    label: str
    story: str
    seed: int | None
    frames: int
    order: dict[str, Any] | None
    figures: dict[str, dict[str, Any]]
    reasons: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class _Results:
    """What a comparison has left."""

    command: str
    facts: dict[str, str]
    plan: list[dict[str, str]]
    videos: list[_Row]


def _planned(settings: CompareSettings) -> tuple[list[_Run], Table, dict[str, Any]]:
    """Check everything that can be before a model is loaded or a file touched; with the plan comes what was measured
    before, by file."""
    spec, request = model_spec(settings.model, **settings.loading.told), settings.request
    if request.frames is None:
        raise InputError("endless videos cannot be compared; give --frames")
    if settings.equal_budget and request.steps is not None:
        raise InputError("--steps has no effect beside --equal-budget, which chooses them; leave one of them out")
    if not settings.prompts:
        raise InputError("there are no prompts; give --prompts a file with one a line")
    stories = read_stories(settings.prompts, "--prompts a file with a prompt a line", request.frames, spec.fps)
    contenders = read_contenders(settings.samplers)
    lists = [manifest_path(settings.output / f"{one.name}.mkv") for one in contenders]
    for path in (settings.output / PAGE, settings.output / RESULTS, *lists):
        refuse_inputs(path, [settings.prompts])
    first = replace(request, prompts=stories[0])
    if settings.equal_budget:
        contenders = equalised(contenders, first, spec)
    costs = [budget(one, first, spec) for one in contenders]
    _check_folder(settings.output, overwrite=settings.overwrite)
    if not settings.dry_run:
        settings.output.mkdir(parents=True, exist_ok=True)
    runs = []
    for one in contenders:
        orders = _orders(settings, one, stories)
        job = checked_job(orders[0], spec, prompts_file=settings.prompts, others=orders[1:])
        runs.append(_Run(contender=one, job=job, orders=orders))
    earlier = {} if settings.overwrite else _earlier(settings.output / RESULTS, runs)
    found = estimate(runs[0].job)
    rate = remembered_rate(runs[0].job.order.model, found.device, found.dtype)
    return runs, _plan_table(runs, costs, rate), earlier


def _orders(settings: CompareSettings, contender: Contender, stories: Sequence[PromptTimeline]) -> list[Order]:
    """Return the videos of a contender: all stories with the first seed, then all with the next."""
    request, path = settings.request, _path(settings.output, contender)
    making = Making(
        request=contender.request(request),
        output=Output(path=path, overwrite=settings.overwrite),
        model=settings.model,
        loading=settings.loading,
        device=settings.device,
        dtype=settings.dtype,
        sampler=contender.sampler.name,
        method=contender.sampler,
    )
    orders = [ordered(making, story) for _ in range(settings.seeds) for story in stories]
    return [
        replace(
            order,
            request=replace(order.request, seed=request.seed + number // len(stories)),
            output=replace(order.output, path=numbered(path, number)),
        )
        for number, order in enumerate(orders)
    ]


def _plan_table(runs: Sequence[_Run], costs: Sequence[Budget], rate: float | None) -> Table:
    """Return what the runs take, a row for each contender; `rate` is operations a second of this machine, if known."""
    rows = []
    for run, cost in zip(runs, costs, strict=True):
        frames, operations = (run.job.frames or 0) * len(run.orders), cost.operations
        rows.append(
            (
                run.contender.label,
                str(run.job.plan.num_levels),
                f"{cost.forwards:.3g}",
                "-" if operations is None else f"{operations / 1e9:.3g}",
                str(len(run.orders)),
                "unknown" if operations is None or rate is None else f"about {duration(operations * frames / rate)}",
            )
        )
    return Table(columns=("sampler", "steps", "forwards/frame", "GFLOP/frame", "videos", "time"), rows=rows)


def _told(prompts: PromptTimeline) -> str:
    """Return prompts as a title says them."""
    spans = zip(prompts.starts, prompts.texts, strict=True)
    return "; ".join(f"from frame {start}: {text}" if start else text for start, text in spans)


def _check_folder(folder: Path, *, overwrite: bool) -> None:
    refuse_name(folder)
    refuse_lost_link(folder, folder=True)
    refuse_file(folder)
    refuse_unwritable(folder, folder if folder.exists() else folder_above(folder))
    page, results = folder / PAGE, folder / RESULTS
    if page.exists() and not results.exists() and not overwrite:
        raise OutputError(f"{page} exists and is of no comparison; choose another -o, or --overwrite it")


def _earlier(results: Path, runs: Sequence[_Run]) -> dict[str, Any]:
    """Return what an earlier comparison has written of its videos, by their files.

    Raises OutputError where a video was begun otherwise, where there are some that this one would leave off its page,
    and for a file of another origin.
    """
    orders = {order.output.path.name: order for run in runs for order in run.orders}
    digest: str | None = None
    for order in orders.values():
        if (record := read_record(order.output.path)) is not None:
            # The machine is not known yet; the run itself looks at it.
            same = {name: record.settings.get(name) for name in ("device", "dtype")}
            digest = digest or order.digest_here() or str(record.settings.get("model digest"))
            check_settings(order.output.path, record, {**order_settings(order), **same, "model digest": digest})
    if not results.exists():
        return {}
    try:
        known = {video.file: asdict(video) for video in read_typed(_Results, read_file(results), "").videos}
    except (OSError, InputError):
        raise OutputError(f"{results} exists and is of no comparison; choose another -o, or --overwrite it") from None
    if missing := [video for name, video in known.items() if name not in orders]:
        labels = ", ".join(dict.fromkeys(video["label"] for video in missing))
        raise OutputError(
            f"{results} has {counted(len(missing), 'video')} ({labels}) that this comparison would leave out; name "
            "those samplers, seeds and prompts too, choose another -o, or --overwrite it"
        )
    return known


def _path(folder: Path, contender: Contender) -> Path:
    """Return what stands for the videos of a contender; above the folder where that is not there, as in a dry run."""
    name = f"{contender.name}.mkv"
    return folder / name if folder.is_dir() else folder_above(folder) / f"{folder.name}-{name}"


def _make(settings: CompareSettings, runs: Sequence[_Run], manifests: list[Manifest], stop: Stop) -> None:
    """Make the videos that are not complete. Of several processes the first one has the `manifests`, one for each run,
    which are opened once all have met."""
    # Imports torch, which takes a second.
    from longtake.ranks.rendezvous import joined_world

    hardware = choose_hardware(settings.device, settings.dtype, runs[0].job.spec.released)
    first, progress = launched().rank == 0, Progress(sum(len(run.orders) for run in runs), "made", stop)
    for line in introduction(hardware, ()) if first else ():
        say(line)
    job = settled(runs[0].job, hardware)
    with joined_world(hardware.device) as world:
        if first:
            paths = [_path(settings.output, run.contender) for run in runs]
            manifests += [Manifest(path, overwrite=settings.overwrite) for path in paths]
        model = load_model(job.order.model, hardware.device, hardware.dtype, **job.order.loading.told)
        making = Turns(model=model, progress=progress, world=world, hardware=hardware)
        for number, run in enumerate(runs):
            if first:
                say(f"making   {run.contender.label}: {counted(len(run.orders), 'video')}")
            make_videos(making, run.orders, manifests[number] if first else None)


def _measured(
    settings: CompareSettings,
    runs: Sequence[_Run],
    table: Table,
    metrics: Mapping[str, Any],
    rows: dict[str, Any],
    arguments: Sequence[str],
    stop: Stop,
) -> Page:
    """Measure all videos, what was measured before and stands in `rows` excepted, and write the results."""
    from longtake.apps.compare.finished import as_json, look_into
    from longtake.video.durable import replace_durable

    path, videos = settings.output / RESULTS, []
    head = {
        "command": command_line("compare", arguments),
        "facts": facts({"model": settings.model, "frames": str(settings.request.frames)}),
        "plan": [dict(zip(table.columns, row, strict=True)) for row in table.rows],
    }
    progress = Progress(sum(len(run.orders) for run in runs), "measured", stop)
    for run in runs:
        say(f"reading  {run.contender.label}")
        for order in run.orders:
            story, name = _told(order.request.prompts), order.output.path.name
            before = rows.get(name)
            video = look_into(order.output.path, metrics, label=run.contender.label, story=story, before=before)
            videos.append(video)
            row = as_json(video, order_content(video.order) if video.order else None)
            if before and all(before[key] == row[key] for key in ("sha256", "longtake")):
                # What was measured before and is not asked for now stays.
                row["figures"] = {**before["figures"], **row["figures"]}
            rows[name] = row
            replace_durable(path, _lines(head, list(rows.values())).encode())
            progress.add()
    return Page(
        title=f"{counted(len(runs), 'sampler')}, {counted(len(videos), 'video')} of {settings.request.frames} frames",
        summary=_summary(settings, runs),
        command=head["command"],
        videos=videos,
        metrics=metrics,
        facts=head["facts"],
        plan=table,
    )


def _summary(settings: CompareSettings, runs: Sequence[_Run]) -> str:
    """Return what is compared, in a line."""
    job, seeds = runs[0].job, settings.seeds
    prompts = counted(len(runs[0].orders) // seeds, "prompt")
    length = f"{duration((job.frames or 0) / job.fps)} each"
    budget = "; steps by which all take the same operations, within 5 %" if settings.equal_budget else ""
    labels = ", ".join(run.contender.label for run in runs)
    return f"{labels} by {settings.model}: {prompts}, {counted(seeds, 'seed')}, {length}{budget}"


def _lines(head: Mapping[str, Any], videos: Sequence[Mapping[str, Any]]) -> str:
    """Return the results as JSON with a line for every video."""
    return json.dumps(head, indent=1)[:-2] + ',\n "videos": [\n' + ",\n".join(map(json.dumps, videos)) + "\n]}\n"
