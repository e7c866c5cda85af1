"""The command `longtake batch`: many videos by one start. The model is loaded once; every video is a run of its own."""

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from longtake._generate import generate
from longtake.apps.arguments import parse_arguments
from longtake.apps.generate.command import check_begun, settled
from longtake.apps.generate.job import Job, checked_job, ordered
from longtake.apps.generate.settings import Making, default_method
from longtake.apps.generate.stopping import Stop, StoppedError, stoppable
from longtake.apps.shown import duration, say
from longtake.errors import InputError, OutputError
from longtake.lazy import named
from longtake.model import VideoModel, VideoSpec
from longtake.models import load_model, model_spec
from longtake.models.hub.precision import Hardware, choose_hardware
from longtake.prompts import read_prompts
from longtake.ranks.torchrun import check_same, launched
from longtake.rates import remember_run
from longtake.reading import check_file, parse_json, read_file, refuse_lost_link
from longtake.report import Order, order_content
from longtake.request import PromptTimeline
from longtake.sampler import Chunk
from longtake.samplers import SAMPLERS
from longtake.samplers.planning import UNCONDITIONAL, checked_plan
from longtake.typed import Setting, Typed
from longtake.video.durable import write_all
from longtake.video.files import MANIFEST_ENDING
from longtake.video.output import refuse_inputs
from longtake.video.record import changed, flat_settings
from longtake.words import counted

if TYPE_CHECKING:
    from longtake.ranks.world import World

_SAY_SECONDS, _SAY_WITHIN_SECONDS = 10.0, 60.0
"""Between lines of how far it is: after a video, and on the way through one."""


@dataclass(frozen=True, kw_only=True)
class Seeds(Typed):
    """How many videos are made of a prompt; settings of what makes several extend this."""

    seeds: int = 1
    """How many videos of every prompt; their seeds count up from --seed, the same for every prompt, so that videos of
    one seed differ by their prompt alone."""

    def __post_init__(self) -> None:
        """Raise InputError for none."""
        super().__post_init__()
        if self.seeds < 1:
            raise InputError(f"--seeds {self.seeds} makes no video; use 1 or more")


@dataclass(frozen=True, kw_only=True)
class BatchSettings(Seeds, Making):
    """Make many videos with one model. OUT.mp4 stands for OUT-000000.mp4 and so on, and OUT.jsonl lists those that are
    complete. The same command continues an interrupted batch; on a finished one it does nothing."""

    what: Annotated[str, Setting(positional=True, metavar="FILE|N")] = ""
    """A file with a prompt a line, "a | b" on one line are two in turn; or how many videos, for a model that reads no
    text."""
    together: int = 1
    """How many videos share each call of the network, for samplers that can; their frames are held in memory. What
    other number of videos is in a call changes rounding, so that a batch is made with one number from start to end."""


def batch_command(arguments: Sequence[str]) -> int:
    """Make the videos; return the exit status."""
    default = BatchSettings(method=default_method(arguments))
    settings = parse_arguments(BatchSettings, "batch", arguments, default=default)
    # Imports torch, which takes a second.
    from longtake.ranks.rendezvous import joined_world

    job, orders = _orders(settings)
    first = launched().rank == 0
    hardware = choose_hardware(job.order.device, job.order.dtype, job.spec.released)
    job = settled(job, hardware)
    check_begun(job, hardware)
    for line in introduction(hardware, job.warnings) if first else ():
        say(line)
    manifest: Manifest | None = None
    with stoppable() as stop:
        try:
            with joined_world(hardware.device) as world:
                if first:
                    manifest = Manifest(settings.output.path, overwrite=settings.output.overwrite)
                told = job.order.loading.told
                model = load_model(job.order.model, hardware.device, hardware.dtype, **told)
                progress = Progress(len(orders), "made", stop)
                making = Turns(model=model, progress=progress, world=world, hardware=hardware)
                made = make_videos(making, orders, manifest, together=settings.together)
        except StoppedError as stopped:
            if first:
                say_stopped(stopped, len(manifest.lines) if manifest else 0, len(orders))
            return stopped.status
    if manifest is None:
        return 0
    listed, asked = len(manifest.lines), len(orders)
    # A list of before may have more: of prompts that are not asked for now.
    among = f"{asked} in" if asked == listed else f"{asked} of the {listed} in"
    say(f"done     {counted(made, 'video')} made, {among} {manifest.path}")
    if settings.json:
        print(json.dumps({"made": made, "videos": len(orders), "manifest": str(manifest.path)}))
    return 0


def _orders(settings: BatchSettings) -> tuple[Job, list[Order]]:
    """Return the first video, checked from end to end, and all of them. Raises as `make_job` does."""
    spec = model_spec(settings.model, **settings.loading.told)
    if settings.request.frames is None:
        raise InputError("a batch of endless videos would never come to the second; give --frames")
    asked = _asked(settings, spec)
    first = ordered(settings, asked[0][0])
    if settings.together < 1:
        raise InputError(f"--together {settings.together} makes no video; use 1 or more")
    if settings.together > 1 and SAMPLERS[settings.method.name].together is None:
        able = " or ".join(name for name, entry in SAMPLERS.items() if entry.together)
        raise InputError(f"{settings.method.name} makes one video at a time; leave --together out, or use {able}")
    orders = [
        replace(
            first,
            request=replace(settings.request, prompts=prompt, seed=seed),
            output=replace(settings.output, path=numbered(settings.output.path, number)),
        )
        for number, (prompt, seed) in enumerate(asked)
    ]
    refuse_inputs(manifest_path(settings.output.path), [settings.what])
    return checked_job(orders[0], spec, prompts_file=settings.what, others=orders[1:]), orders


def _asked(settings: BatchSettings, spec: VideoSpec) -> list[tuple[PromptTimeline, int]]:
    """Return prompts and seed of every video: all stories with the first seed, then all with the next."""
    what, seed = settings.what, settings.request.seed
    if not what:
        raise InputError("what to make is missing; give a file with a prompt a line, or a number of videos")
    if what.isdecimal() and what.isascii():
        if not int(what):
            raise InputError("0 videos are nothing to make; ask for 1 or more")
        if spec.vocabulary != frozenset():
            raise InputError("this model reads text; give a file with a prompt a line, and --seeds for several of each")
        if settings.seeds > 1:
            raise InputError(f"--seeds has no effect beside a number: {what} videos have a seed each; leave it out")
        return [(UNCONDITIONAL, seed + number) for number in range(int(what))]
    frames, fps = settings.request.frames, settings.output.fps or spec.fps
    stories = read_stories(what, "a file with a prompt a line, or a number of videos", frames, fps)
    return [(story, seed + number) for number in range(settings.seeds) for story in stories]


def read_stories(file: str, instead: str, frames: int | None, fps: float) -> list[PromptTimeline]:
    """Return what the lines of a file say that are not empty: "a | b" are two prompts in turn, as `read_prompts` reads
    them. Raises InputError as that does, and for a file that cannot be read, which says what to give `instead`, or has
    none."""
    try:
        # At line ends alone: a prompt may hold what str.splitlines takes for one, such as U+2028.
        check_file(file)
        lines = Path(file).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise InputError(f"cannot read {file!r} ({why}); give {instead}") from None
    stories = [
        read_prompts(line.strip(), frames, fps, file, number) for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not stories:
        raise InputError(f"{file} holds no prompts; write one a line")
    return stories


def numbered(path: Path, number: int) -> Path:
    """Return where the video of a number goes: a-000000.mkv of a.mkv."""
    return path.with_name(f"{path.stem}-{number:06d}{path.suffix}")


def manifest_path(output: Path) -> Path:
    """Return where the list of the videos lies for which `output` stands: a.jsonl for a.mkv."""
    return output.with_suffix(MANIFEST_ENDING)


class Progress:
    """Says on the way how many of some videos are through, and about how long the others take."""

    def __init__(self, total: int, what: str, stop: Stop) -> None:
        """`what` is done with each: "made"."""
        self._total, self._what, self._stop = total, what, stop
        self._there, self._done = 0, 0
        self._begin = self._said = time.monotonic()
        self._first: int | None = None
        """Frames of the video under way that were there before."""

    def skip(self, count: int) -> None:
        """Take note of videos that were through before."""
        self._there += count

    def add(self) -> None:
        """Take note of one more."""
        self._done += 1
        self._first = None
        if time.monotonic() - self._said >= _SAY_SECONDS:
            self._say(self._done, "")

    def on_the_way(self, frames: int, of: int) -> None:
        """Take note of frames of the next one. Raises StoppedError where the end was asked for."""
        self._stop.check()
        self._first = frames if self._first is None else self._first
        if time.monotonic() - self._said >= _SAY_WITHIN_SECONDS:
            share = (frames - self._first) / max(of - self._first, 1)
            self._say(self._done + min(share, 1.0), f" and {frames:,} of {counted(of, 'frame')}")

    def _say(self, done: float, within: str) -> None:
        if launched().rank:
            return
        self._said = now = time.monotonic()
        each = (now - self._begin) / done if done else None
        pace = "" if each is None or not self._done else f", {duration(each)} each"
        left = "" if each is None else f", about {duration(each * (self._total - self._there - done))} left"
        through = self._there + self._done
        rest = left if through < self._total else ""
        say(f"{through}/{counted(self._total, 'video')}{within} {self._what}{pace}{rest}")


def say_stopped(stopped: StoppedError, there: int, total: int) -> None:
    """Say how many of the videos that were asked for are complete; a list may have more."""
    complete = f"{min(there, total)} of {counted(total, 'video')}"
    say(f"{stopped}: complete so far {complete}; the same command continues")


def introduction(hardware: Hardware, warnings: Iterable[str]) -> list[str]:
    """Return what is said before videos are made."""
    size = launched().size
    shared = f", {size} processes, a video each at a time" if size > 1 else ""
    return [f"device   {hardware.reason}{shared}", *(f"warning: {warning}" for warning in warnings)]


@dataclass(frozen=True, kw_only=True)
class Turns:
    """What videos are made with, in turns of one for each process."""

    model: VideoModel
    progress: Progress
    world: "World"
    hardware: Hardware | None = None
    """Whose rate is kept, from which the next plan says how long it takes; of a process that is alone."""

    def make(self, order: Order, made: Sequence[Chunk] | None) -> None:
        """Make a video, or write what was made of it together with others."""
        of = order.frames or 0

        def note(frames: int, *_: object) -> None:
            self.progress.on_the_way(frames, of)

        result = generate(self.model, order.request, order.sampler, order.output, progress=note, made=made)
        if self.hardware and made is None and self.world.size == 1:
            remember_run(result, order.model, self.hardware)


def make_videos(making: Turns, orders: Sequence[Order], manifest: "Manifest | None", together: int = 1) -> int:
    """Make those videos that are not complete, in order; return how many. Of several processes each makes whole videos,
    as it would alone; the first one has the manifest."""
    model, world = making.model, making.world
    lines = [_line(model, order) | {"together": together} for order in orders]
    check_same(world.all.say({"videos": len(lines), **_settings(lines[0])}))
    todo: set[int] = set(world.all.say(manifest and manifest.lacking(lines))[0])
    making.progress.skip(len(orders) - len(todo))
    # Always the same videos share a call, complete ones too: the bytes are those of a batch that was never stopped.
    groups = [range(start, min(start + together, len(orders))) for start in range(0, len(orders), together)]
    groups = [group for group in groups if not todo.isdisjoint(group)]
    for start in range(0, len(groups), world.size):
        turn = groups[start : start + world.size]
        for group in turn[world.rank : world.rank + 1]:
            chunks = _chunks(model, [orders[number] for number in group])
            for number in sorted(todo.intersection(group)):
                making.make(orders[number], chunks[number - group.start])
        # Nobody goes on before all of the turn are on the list.
        world.all.say("made")
        for number in (number for group in turn for number in group if number in todo):
            if manifest:
                manifest.add(number, lines[number])
                making.progress.add()
    return len(todo)


def _chunks(model: VideoModel, group: Sequence[Order]) -> Sequence[Sequence[Chunk] | None]:
    """Return all that comes of videos that share their calls of the network; None for one that is made alone."""
    if len(group) == 1:
        return [None]
    from longtake.noise import seeded_noise

    plans = [checked_plan(model.spec, order.request, order.sampler) for order in group]
    entry = SAMPLERS[group[0].sampler.name]
    assert entry.together is not None
    return named(entry.together)(model, plans, [seeded_noise(order.request.seed) for order in group])


def _line(model: VideoModel, order: Order) -> dict[str, Any]:
    """Return what the manifest says of a video: its file, and everything that decides its frames."""
    plan = checked_plan(model.spec, order.request, order.sampler)
    content = order_content(Order.of(model, plan, order.output))
    return {"file": order.output.path.name, "prompt": " | ".join(order.request.prompts.texts), **content}


_DIGESTS = {
    "model.name": "model",
    "model.digest": "model digest",
    "request.init.sha256": "init",
    "output.audio.sha256": "audio",
}


def _settings(line: Mapping[str, Any]) -> dict[str, object]:
    """Return a line of the manifest by the names that the record of a run has."""
    # The prompt is for a reader; what decides stands in the request.
    flat = flat_settings({name: value for name, value in line.items() if name != "prompt"})
    return {_DIGESTS.get(name, re.sub(r"^(request|output)\.", "", name)): value for name, value in flat.items()}


class Manifest:
    """The list of complete videos, a line of JSON each, in order."""

    def __init__(self, output: Path, *, overwrite: bool) -> None:
        """`output` stands for all of them: a.jsonl lists a-000000.mkv and so on. Raises OutputError where no list can
        be, and InputError for one that cannot be read."""
        self.path = manifest_path(output)
        if self.path.is_dir():
            raise OutputError(f"cannot write {self.path}: it is a folder; choose another -o")
        refuse_lost_link(self.path, folder=False)
        if overwrite:
            self.path.unlink(missing_ok=True)
        self.lines = list(self._read()) if self.path.exists() else []

    def _read(self) -> Iterator[Mapping[str, Any]]:
        try:
            content = read_file(self.path)
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror}; choose another -o") from None
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            # A kill has cut the last line; its video is complete, and found so.
            os.truncate(self.path, len(whole))
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                found = dict(parse_json(line))
                # What is nested deeper than this comes to is no line, either.
                _settings(found)
            except (ValueError, TypeError, RecursionError):
                raise InputError(
                    f"{self.path}: line {number} is no line of a manifest; choose another -o, or --overwrite it"
                ) from None
            yield found

    def lacking(self, lines: Sequence[Mapping[str, Any]]) -> list[int]:
        """Return the numbers of the videos that are not complete. Raises InputError as `has` does."""
        return [number for number, line in enumerate(lines) if not self.has(number, line)]

    def has(self, number: int, line: Mapping[str, Any]) -> bool:
        """Return whether a video is complete. Raises InputError where another one stands in its place."""
        if number >= len(self.lines):
            return False
        if changes := changed(_settings(self.lines[number]), _settings(line)):
            raise InputError(
                f"{self.path} was begun with other settings of video {number}: {', '.join(changes)}; give the same, "
                "another -o, or --overwrite"
            )
        return self.path.with_name(str(line["file"])).exists()

    def add(self, number: int, line: Mapping[str, Any]) -> None:
        """Add a video that is complete, on the disk when this returns."""
        if number < len(self.lines):
            return
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            write_all(descriptor, (json.dumps(line) + "\n").encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.lines.append(line)
