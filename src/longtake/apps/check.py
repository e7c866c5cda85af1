"""The command `longtake check`: does a model run here as it should? A line an answer, and a file for a bug report."""

import json
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from longtake import __version__
from longtake._generate import stream
from longtake.apps.arguments import OneFile, parse_arguments
from longtake.apps.generate.command import settled
from longtake.apps.generate.job import Job, checked_loading
from longtake.apps.generate.settings import Weights
from longtake.apps.plan.costs import estimate
from longtake.apps.shown import duration, size
from longtake.errors import CapabilityError, InputError, LongtakeError
from longtake.machine import peak_memory, processor
from longtake.model import VideoModel, VideoSpec
from longtake.models import canonical, load_model, model_spec, stock_class
from longtake.models.hub.precision import Hardware, choose_hardware
from longtake.ranks.torchrun import launched
from longtake.report import Order
from longtake.request import PromptTimeline, Request
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.planning import checked_plan
from longtake.typed import Setting
from longtake.video.formats import FORMATS
from longtake.words import plain

MOST = {"float32": 1e-3, "bfloat16": 0.2, "float16": 0.05}
"""How far x0 of one call may be from the stock pipeline's, in its standard deviations, by number format."""
MOST_LEVELS = 1
"""How far a pixel of a stream may be from that of all frames at once, of 255."""
MORE, SLACK = 1.25, 256_000_000
"""How far memory may be above the plan: a share of it, and bytes for what allocators keep."""
STEPS = 2

Status = Literal["ok", "failed", "skipped"]
Answer = tuple[Status, str, dict[str, Any]]
"""How it stands, a line that says so, and the figures."""


@dataclass(frozen=True, kw_only=True)
class CheckSettings(OneFile, Weights):
    """Check a model before a long run: that it loads, that a window takes the memory that 'longtake plan' says, that
    one call of its network is what its pipeline of diffusers computes, and that frames decoded in pieces are those of
    all at once. The exit status is 1 where an answer is no; the file is what to attach to a bug report."""

    model: Annotated[str, Setting(positional=True, metavar="MODEL")] = ""
    output: Annotated[Path, Setting(short="-o", metavar="PATH")] = Path("check.json")
    """Where to write what was found."""


def check_command(arguments: Sequence[str]) -> int:
    """Check a model; return 1 where something is not as it should be."""
    settings = parse_arguments(CheckSettings, "check", arguments)
    _check(settings)
    checked_loading(settings.loading, settings.device, Chunked())
    spec = model_spec(settings.model, **settings.loading.told)
    settings.check_output(*_read(settings))
    hardware = choose_hardware(settings.device, settings.dtype, spec.released)
    answers = []
    for name, (status, line, figures) in _answers(settings, spec, hardware):
        answers.append({"check": name, "status": status, "says": line, **figures})
        if not settings.json:
            print(plain(f"{name:8} {status:7}  {line}"), flush=True)
    content = json.dumps(_content(settings, spec, hardware) | {"checks": answers}, indent=2, default=str)
    settings.output.write_text(content + "\n", encoding="utf-8")
    failed = ", ".join(answer["check"] for answer in answers if answer["status"] == "failed")
    verdict = f"failed: {failed}" if failed else "nothing failed"
    told = f"{verdict}; written to {settings.output} (-o chooses another), with all of it, for a bug report"
    print(content if settings.json else plain(told))
    return 1 if failed else 0


def _read(settings: CheckSettings) -> list[Path]:
    """Return the files that a model may be read from, where they are named by their path."""
    places = [Path(place).expanduser() for place in (settings.model, settings.loading.base) if place]
    places += [lora.file for lora in settings.loading.loras]
    files = [file for place in places for file in (place.rglob("*") if place.is_dir() else [place])]
    # Who checks a model from within its folder leaves the answer there.
    return [file for file in files if file.name != CheckSettings.output.name]


def _check(settings: CheckSettings) -> None:
    """Raise InputError for what cannot be done."""
    if not settings.model:
        raise InputError("which model is missing; give a name, a folder or a hub id")
    if launched().size > 1:
        raise InputError("a model is checked by one process; start it without torchrun")


def _content(settings: CheckSettings, spec: VideoSpec, hardware: Hardware) -> dict[str, Any]:
    """Return what is asked of a bug report."""
    # Imports torch.
    from longtake.video.sink import environment

    known = {name: value for name, value in asdict(spec).items() if name not in ("capabilities", "vocabulary")}
    return {
        "longtake": __version__,
        "model": canonical(settings.model),
        "loading": settings.loading.absolute.told,
        "hardware": hardware.reason,
        "environment": {**environment("none"), "processor": processor()},
        "spec": known | {"capabilities": sorted(each.__name__ for each in spec.capabilities)},
    }


def _answers(settings: CheckSettings, spec: VideoSpec, hardware: Hardware) -> Iterator[tuple[str, Answer]]:
    begin, loading, job, unfit = time.monotonic(), settings.loading, None, ""
    try:
        job = _job(settings, spec, hardware)
        loading = job.order.loading
    except CapabilityError as error:
        unfit = str(error)
    try:
        model = load_model(settings.model, hardware.device, hardware.dtype, **loading.told)
    except LongtakeError as error:
        yield "loads", _failed(error)
        return
    weights = f"{spec.parameters / 1e6:.1f} M weights, {hardware.reason}, {duration(time.monotonic() - begin)}"
    yield "loads", ("ok", f"{spec.name}: {weights}", {"digest": model.digest})
    # Before the others, whose own memory would count.
    yield "memory", ("skipped", unfit, {}) if job is None else _answer(partial(_memory, model, job))
    yield "network", _answer(lambda: _network(model, settings, hardware.dtype_name))
    yield "decoder", _answer(lambda: _decoder(model))


def _answer(ask: Callable[[], Answer]) -> Answer:
    from longtake.models.hub.parity import NotComparedError

    try:
        return ask()
    except (NotComparedError, CapabilityError) as reason:
        return "skipped", str(reason), {}
    except Exception as error:
        return _failed(error)


def _failed(error: Exception) -> Answer:
    line = " ".join(f"{type(error).__name__}: {error}".split())
    return "failed", line[:300], {"traceback": "".join(traceback.format_exception(error))}


def _job(settings: CheckSettings, spec: VideoSpec, hardware: Hardware) -> Job:
    """Return the video of one window, with --offload auto settled for it. Raises CapabilityError for a model that
    `chunked` cannot run."""
    frames = spec.timing.pixel_frames(spec.num_frames)
    prompts, steps = PromptTimeline.constant("a red car"), len(spec.sigmas) or STEPS
    request, sampler = Request(prompts=prompts, frames=frames, steps=steps), Chunked()
    order = Order(
        model=canonical(settings.model),
        loading=settings.loading,
        request=request,
        sampler=sampler,
        device=hardware.device,
        dtype=hardware.dtype_name,
    )
    plan = checked_plan(spec, request, sampler)
    return settled(Job(order=order, spec=spec, format=FORMATS["mp4"], plan=plan), hardware)


def _memory(model: VideoModel, job: Job) -> Answer:
    """Make one window, and compare the most memory that it took with what the plan says of it."""
    import torch

    begin, device = time.monotonic(), job.order.device
    made = sum(map(len, stream(model, job.order.request, job.order.sampler)))
    seconds, costs = time.monotonic() - begin, estimate(job)
    planned = costs.peak_memory_bytes
    taken = torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else peak_memory()
    line = f"{size(taken)} at most, planned {size(planned)}: one window of {made} frames in {duration(seconds)}"
    figures = {"memory_bytes": taken, "planned_bytes": planned, "by_part": costs.memory_by_part, "frames": made}
    is_well = taken <= MORE * planned + SLACK and made == job.frames
    return "ok" if is_well else "failed", line, figures


def _network(model: VideoModel, settings: CheckSettings, dtype: str) -> Answer:
    """Compare one call of the network with the stock pipeline's."""
    from longtake.models.hub.parity import parity

    found = parity(model, stock_class(settings.model, **settings.loading.told))
    rounding = "" if dtype == "float32" else f", since {dtype} rounds"
    line = (
        f"one call is {found.difference:.2g} standard deviations from {found.pipeline}'s, "
        f"{MOST[dtype]:g} at most{rounding}"
    )
    return "ok" if found.difference <= MOST[dtype] else "failed", line, asdict(found)


def _decoder(model: VideoModel) -> Answer:
    """Compare frames that are decoded in pieces with all at once."""
    from longtake.models.hub.parity import stream_difference

    difference = stream_difference(model)
    line = f"pieces are {difference} of 255 from all frames at once, {MOST_LEVELS} at most"
    return "ok" if difference <= MOST_LEVELS else "failed", line, {"difference": difference}
