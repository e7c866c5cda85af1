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
from longtake.apps.generate.command import settled
from longtake.apps.generate.job import Job, checked_job, ordered
from longtake.apps.generate.settings import Making, default_method
from longtake.apps.generate.stopping import Stop, StoppedError, stoppable
from longtake.apps.shown import counted, duration, say
from longtake.errors import InputError, OutputError
from longtake.lazy import named
from longtake.model import VideoModel
from longtake.models import load_model, model_spec
from longtake.models.hub.precision import Hardware, choose_hardware
from longtake.ranks.torchrun import check_same, launched
from longtake.reading import check_file, read_file
from longtake.report import Order, order_content
from longtake.request import PromptTimeline
from longtake.sampler import Chunk
from longtake.samplers import SAMPLERS
from longtake.samplers.planning import UNCONDITIONAL, checked_plan
from longtake.typed import Setting
from longtake.video.durable import write_all
from longtake.video.files import MANIFEST_ENDING
from longtake.video.record import changed, flat_settings

if TYPE_CHECKING:
    from longtake.ranks.world import World

_SAY_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """How many videos are made of a prompt; settings of what makes several extend this."""

    seeds: int = 1
    """How many videos of every prompt; their seeds count up from --seed, the same for every prompt, so that videos of
    one seed differ by their prompt alone."""

    def __post_init__(self) -> None:
        """Raise InputError for none."""
        if self.seeds < 1:
            raise InputError(f"--seeds {self.seeds} makes no video; use 1 or more")


@dataclass(frozen=True, kw_only=True)
class BatchSettings(Seeds, Making):
    """Make many videos with one model. OUT.mp4 stands for OUT-000000.mp4 and so on, and OUT.jsonl lists those that are
    complete. The same command continues an interrupted batch; on a finished one it does nothing."""

    what: Annotated[str, Setting(positional=True, metavar="FILE|N")] = ""
    """A file with a prompt a line, or how many videos, for a model that reads no text."""
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
                made = make_videos(model, orders, settings.together, manifest, stop, world)
        except StoppedError as stopped:
            if first:
                there, total = len(manifest.lines) if manifest else 0, counted(len(orders), "video")
                say(f"{stopped}: complete so far {there} of {total}; the same command continues")
            return stopped.status
    if manifest is None:
        return 0
    say(f"done     {counted(made, 'video')} made, {len(orders)} in {manifest.path}")
    if settings.json:
        print(json.dumps({"made": made, "videos": len(orders), "manifest": str(manifest.path)}))
    return 0


def _orders(settings: BatchSettings) -> tuple[Job, list[Order]]:
    """Return the first video, checked from end to end, and all of them. Raises as `make_job` does."""
    spec = model_spec(settings.model, **settings.loading.told)
    asked = _asked(settings, reads_text=spec.vocabulary != frozenset())
    first = ordered(settings, asked[0][0])
    if settings.together < 1:
        raise InputError(f"--together {settings.together} makes no video; use 1 or more")
    if settings.together > 1 and SAMPLERS[settings.method.name].together is None:
        able = " or ".join(name for name, entry in SAMPLERS.items() if entry.together)
        raise InputError(f"{settings.method.name} makes one video at a time; leave --together out, or use {able}")
    if first.frames is None:
        raise InputError("a batch of endless videos would never come to the second; give --frames")
    orders = [
        replace(
            first,
            request=replace(settings.request, prompts=prompt, seed=seed),
            output=replace(settings.output, path=numbered(settings.output.path, number)),
        )
        for number, (prompt, seed) in enumerate(asked)
    ]
    return checked_job(orders[0], spec, prompts_file=settings.what, others=orders[1:]), orders


def _asked(settings: BatchSettings, *, reads_text: bool) -> list[tuple[PromptTimeline, int]]:
    """Return prompt and seed of every video: all prompts with the first seed, then all with the next."""
    what, seed = settings.what, settings.request.seed
    if not what:
        raise InputError("what to make is missing; give a file with a prompt a line, or a number of videos")
    if what.isdecimal() and what.isascii():
        if not int(what):
            raise InputError("0 videos are nothing to make; ask for 1 or more")
        if reads_text:
            raise InputError("this model reads text; give a file with a prompt a line, and --seeds for several of each")
        if settings.seeds > 1:
            raise InputError(f"--seeds has no effect beside a number: {what} videos have a seed each; leave it out")
        return [(UNCONDITIONAL, seed + number) for number in range(int(what))]
    prompts = [PromptTimeline.constant(text) for text in read_lines(what)]
    return [(prompt, seed + number) for number in range(settings.seeds) for prompt in prompts]


def read_lines(file: str) -> list[str]:
    """Return the lines of a file that are not empty. Raises InputError for one that cannot be read, or has none."""
    try:
        # At line ends alone: a prompt may hold what str.splitlines takes for one, such as U+2028.
        check_file(file)
        lines = Path(file).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise InputError(
            f"cannot read {file!r} ({why}); give a file with a prompt a line, or a number of videos"
        ) from None
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise InputError(f"{file} holds no prompts; write one a line")
    return prompts


def numbered(path: Path, number: int) -> Path:
    """Return where the video of a number goes: a-000000.mkv of a.mkv."""
    return path.with_name(f"{path.stem}-{number:06d}{path.suffix}")


def introduction(hardware: Hardware, warnings: Iterable[str]) -> list[str]:
    """Return what is said before videos are made."""
    size = launched().size
    shared = f", {size} processes, a video each at a time" if size > 1 else ""
    return [f"device   {hardware.reason}{shared}", *(f"warning: {warning}" for warning in warnings)]


def make_videos(
    model: VideoModel,
    orders: Sequence[Order],
    together: int,
    manifest: "Manifest | None",
    stop: Stop,
    world: "World",
) -> int:
    """Make those videos that are not complete, in order; return how many.

    Of several processes each makes whole videos, as it would alone; the first one has the manifest.
    """
    lines = [_line(model, order) | {"together": together} for order in orders]
    check_same(world.all.say({"videos": len(lines)} | _settings(lines[0])))
    todo: set[int] = set(world.all.say(manifest and manifest.lacking(lines))[0])
    # Always the same videos share a call, complete ones too: the bytes are those of a batch that was never stopped.
    groups = [range(start, min(start + together, len(orders))) for start in range(0, len(orders), together)]
    groups = [group for group in groups if not todo.isdisjoint(group)]
    begin = said = time.monotonic()
    for start in range(0, len(groups), world.size):
        turn = groups[start : start + world.size]
        for group in turn[world.rank : world.rank + 1]:
            chunks = _chunks(model, [orders[number] for number in group])
            for number in (number for number in group if number in todo):
                order, made = orders[number], chunks[number - group.start]
                generate(model, order.request, order.sampler, order.output, progress=lambda *_: stop.check(), made=made)
        # Nobody goes on before all of the turn are on the list.
        world.all.say("made")
        if manifest is None:
            continue
        for number in (number for group in turn for number in group if number in todo):
            manifest.add(number, lines[number])
        if (now := time.monotonic()) - said >= _SAY_SECONDS:
            said, done = now, start + len(turn)
            left = (now - begin) / done * (len(groups) - done)
            say(f"{turn[-1].stop}/{counted(len(orders), 'video')}, about {duration(left)} left")
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
    return {"file": order.output.path.name, "prompt": order.request.prompts.texts[0], **content}


_DIGESTS = {
    "model.name": "model",
    "model.digest": "model digest",
    "request.init.sha256": "init",
    "output.audio.sha256": "audio",
}


def _settings(line: Mapping[str, Any]) -> dict[str, object]:
    """Return a line of the manifest by the names that the record of a run has."""
    flat = flat_settings(line)
    return {_DIGESTS.get(name, re.sub(r"^(request|output)\.", "", name)): value for name, value in flat.items()}


class Manifest:
    """The list of complete videos, a line of JSON each, in order."""

    def __init__(self, output: Path, *, overwrite: bool) -> None:
        """`output` stands for all of them: a.jsonl lists a-000000.mkv and so on. Raises OutputError where no list can
        be, and InputError for one that cannot be read."""
        self.path = output.with_suffix(MANIFEST_ENDING)
        if self.path.is_dir():
            raise OutputError(f"cannot write {self.path}: it is a folder; choose another -o")
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
                yield dict(json.loads(line))
            except (ValueError, TypeError):
                raise InputError(f"{self.path}: line {number} is no line of a manifest; choose another -o") from None

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
