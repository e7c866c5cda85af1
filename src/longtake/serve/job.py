"""A job of the queue: which video is wanted, and how far it is. Free of torch."""

import re
import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from longtake.errors import InputError
from longtake.models import DEFAULT_MODEL, canonical, model_spec
from longtake.models.hub.loading import Loading
from longtake.reading import is_name
from longtake.report import Order
from longtake.request import PromptTimeline, Request
from longtake.samplers import DEFAULT_SAMPLER, sampler_class
from longtake.serve.settings import Computing
from longtake.typed import read_typed
from longtake.video.output import Output

Verb = Literal["generate", "extend", "redo"]
Status = Literal["queued", "in_progress", "paused", "completed", "failed", "cancelled"]
STATUSES: tuple[Status, ...] = get_args(Status)
FILES = frozenset({"keyframes", "before"})
"""Settings of samplers that name files, which nobody may do from elsewhere."""
OPEN: tuple[Status, ...] = ("queued", "in_progress", "paused")
"""Those from which a job still becomes something else by itself, or when it is resumed."""


@dataclass(frozen=True, kw_only=True)
class VideoJob:
    """A video from nothing, as `longtake generate` makes it. Names and defaults are those of `Request` and `Output`."""

    prompts: PromptTimeline
    model: str = DEFAULT_MODEL
    sampler: str = DEFAULT_SAMPLER
    settings: dict[str, Any] = field(default_factory=dict)
    """Those of the sampler that are others than its own, by name."""
    frames: int | None = Request.frames
    seed: int = Request.seed
    guidance: float | None = None
    negative_prompt: str = ""
    steps: int | None = None
    size: str | None = None
    """WxH: a whole multiple of the model's own enlarges pixels, any other is asked of its network."""
    fps: float | None = None
    crf: int = Output.crf
    segment: int = 8
    keep_states: int = Output.keep_states
    input_reference: str | None = None
    """What it begins with: the name of a file in the folder `uploads` of the queue."""


@dataclass(frozen=True, kw_only=True)
class ExtendJob:
    """A video that goes on where another ends, as `longtake extend -o` makes it."""

    parent: str
    frames: int
    """How many are added."""
    prompts: PromptTimeline | None = None
    """Of what is added, counted from there; None goes on with the last."""


@dataclass(frozen=True, kw_only=True)
class RedoJob:
    """A video that becomes another from a frame on, as `longtake redo -o` makes it."""

    parent: str
    frame: int
    prompts: PromptTimeline | None = None
    """From that frame on, counted from there; None for those of before."""
    seed: int | None = None
    keep_queue: bool = False


Asked = VideoJob | ExtendJob | RedoJob
VERBS: dict[Verb, type[Asked]] = {"generate": VideoJob, "extend": ExtendJob, "redo": RedoJob}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why a job has failed."""

    code: str
    """input_error, capability_error, output_error, checkpoint_error and such, by `code_of`; worker_died and
    internal_error."""
    message: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as the queue knows it at a moment. Times are seconds since 1970."""

    id: str
    """`video_` and 24 hex digits; the only thing by which its files are named."""
    status: Status
    asked: Asked
    model: str
    sampler: str
    seed: int
    prompts: PromptTimeline
    """Of the whole video, as they are told now; what has begun keeps those of before."""
    told: int
    """How often they were told anew."""
    can_turn: bool
    """Whether they can be told anew on the way."""
    frames_total: int
    frames_done: int
    """Frames that the run has made; `Record.stored` beside the file says how many of them play."""
    fps: float
    width: int
    """Of the file, in pixels."""
    height: int
    created_at: float
    updated_at: float
    started_at: float | None = None
    """When a worker took it first."""
    first_at: float | None = None
    """When its first frames were there."""
    completed_at: float | None = None
    rate: float = 0.0
    """Frames per second of the present process; 0 while that is not known."""
    memory: int = 0
    """Bytes that the worker occupies."""
    doing: str = ""
    """What goes on while there are no frames."""
    error: Problem | None = None
    worker: str | None = None
    """Who holds it; a job that was paused or cancelled may be held for a moment still."""
    position: int | None = None
    """Place among those that wait, from 1; None for others."""

    @property
    def verb(self) -> Verb:
        """Return by which command it is made."""
        return next(verb for verb, kind in VERBS.items() if isinstance(self.asked, kind))

    @property
    def parent(self) -> str | None:
        """Return the job whose video it goes on from."""
        return None if isinstance(self.asked, VideoJob) else self.asked.parent

    @property
    def from_frame(self) -> int | None:
        """Return from which frame on a redo is another video."""
        return self.asked.frame if isinstance(self.asked, RedoJob) else None

    @property
    def file(self) -> str:
        """Return the name of its video in the folder of the queue."""
        return f"{self.id}.mp4"

    @property
    def seconds_left(self) -> float | None:
        """Return how long it goes on at the present rate; None where that is not known."""
        return (self.frames_total - self.frames_done) / self.rate if self.rate else None


def new_id() -> str:
    """Return the id of another job."""
    return f"video_{secrets.token_hex(12)}"


def code_of(error: BaseException) -> str:
    """Return the kind of an error as a `Problem` and a refusal name it: input_error."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower()


def order_of(asked: VideoJob, path: Path, uploads: Path, computing: Computing) -> Order:
    """Return what a run is asked for, whose output is `path`. Raises InputError for names that are not known, for
    settings that the sampler does not have, and for a size that is none."""
    for name in (name for name in asked.settings if name in FILES):
        raise InputError(f"sampler.{name} names files of the server, which no request can; leave it out")
    if asked.input_reference is not None and not is_name(asked.input_reference):
        raise InputError("input_reference is no name of an upload; upload the picture or video with the request")
    model, loading, scale = computing.model(asked.model), computing.loading, 1
    if asked.size is not None:
        loading, scale = _sized(model, asked.size, loading)
    sampler = read_typed(sampler_class(asked.sampler), asked.settings, f"sampler {asked.sampler}")
    init = None if asked.input_reference is None else str((uploads / asked.input_reference).resolve())
    request = Request(
        prompts=asked.prompts,
        frames=asked.frames,
        seed=asked.seed,
        guidance=asked.guidance,
        negative_prompt=asked.negative_prompt,
        steps=asked.steps,
        init=init,
    )
    output = Output(
        path=path, fps=asked.fps, crf=asked.crf, scale=scale, segment=asked.segment, keep_states=asked.keep_states
    )
    return Order(
        model=canonical(model),
        loading=loading.absolute,
        request=request,
        sampler=sampler,
        device=computing.device,
        dtype=computing.dtype,
        output=output,
    )


def _sized(model: str, size: str, loading: Loading) -> tuple[Loading, int]:
    """Return how a model is loaded for a size, and how much its pixels are enlarged."""
    sized = replace(loading, size=size)
    height, width = sized.asked["size"]
    own = model_spec(model, **loading.told)
    scale = width // own.width
    if scale and (own.width * scale, own.height * scale) == (width, height):
        return loading, scale
    return sized, 1
