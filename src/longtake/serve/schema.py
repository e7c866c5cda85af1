"""What a request says: its fields, as OpenAI's clients send them and longtake adds to them, and the job that they ask
for.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from longtake.errors import InputError, unknown_name
from longtake.prompts import read_prompts
from longtake.reading import parse_json
from longtake.request import PromptTimeline
from longtake.samplers import sampler_class
from longtake.serve.job import FILES, ExtendJob, Job, RedoJob, VideoJob
from longtake.typed import read_word
from longtake.video.encoding import exact_rate, read_rate

SETTING = "sampler."
"""What the names of a sampler's own settings begin with."""
Prompts = str | list[str | dict[str, Any]] | dict[str, str]
"""Several prompts: the spellings of `longtake generate --prompts` as a text or as JSON, and what a video says."""


class Body(BaseModel):
    """A request; a form gives every value as a text, and JSON within it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


Kind = TypeVar("Kind", bound=Body)


class Create(Body):
    """A video that somebody wants. Settings of the sampler follow under names of their own: `sampler.partitions`."""

    model_config = ConfigDict(
        extra="allow",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        json_schema_extra={"patternProperties": {r"^sampler\.\w+$": {}}, "additionalProperties": False},
    )

    prompt: str | None = Field(None, max_length=20_000)
    """What it shows; not looked at where there are `prompts`."""
    prompts: Prompts | None = None
    """Several in turn."""
    model: str = VideoJob.model
    """A name that `GET /v1/options` lists."""
    seconds: float | None = Field(None, gt=0, le=1e7)
    """Length; or `num_frames`."""
    num_frames: int | None = Field(None, ge=1, le=1 << 40)
    size: str | None = Field(None, pattern=r"^\d{1,5}x\d{1,5}$")
    """WIDTHxHEIGHT of the file: a multiple of the model's own enlarges pixels."""
    fps: float | str | None = None
    """Frames per second, also as a fraction: 30000/1001."""
    seed: int = Field(VideoJob.seed, ge=0, lt=1 << 63)
    guidance_scale: float | None = None
    negative_prompt: str = Field("", max_length=20_000)
    num_inference_steps: int | None = Field(None, ge=1, le=100_000)
    sampler: str = VideoJob.sampler
    crf: int = VideoJob.crf
    """Quality: 0 is lossless, 18 looks so, 51 is worst."""
    segment: int = VideoJob.segment
    """Frames after which more of the file plays."""
    keep_states: int = Field(VideoJob.keep_states, ge=0, lt=1 << 62)
    """Bytes for earlier states of the run, from which it can be made otherwise."""


class Reference(Body):
    """A video of this server."""

    id: str


class Extend(Body):
    """A video that goes on where another ends."""

    video: Reference | str
    """Which one, also as its id alone."""
    prompt: str | None = Field(None, max_length=20_000)
    prompts: Prompts | None = None
    """Counted from the first new frame; without any, the last one goes on."""
    seconds: float | None = Field(None, gt=0, le=1e7)
    """How much longer; or `num_frames`."""
    num_frames: int | None = Field(None, ge=1, le=1 << 40)

    @property
    def parent(self) -> str:
        """Return the id of the video that goes on."""
        return self.video if isinstance(self.video, str) else self.video.id


class Remix(Body):
    """A video that becomes another from a moment on."""

    prompt: str | None = Field(None, max_length=20_000)
    prompts: Prompts | None = None
    """Counted from the moment."""
    from_seconds: float | None = Field(None, ge=0, le=1e7)
    """The moment; or `from_frame`, and the start without either."""
    from_frame: int | None = Field(None, ge=0, le=1 << 40)
    seed: int | None = Field(None, ge=0, lt=1 << 63)
    keep_queue: bool = False
    """Let fifo go on with frames that are half made there."""


class Retell(Body):
    """Other prompts for what has not begun."""

    prompt: str | None = Field(None, max_length=20_000)
    """From now on."""
    prompts: Prompts | None = None
    """Of the whole video, or from `from_frame` on, counted from it."""
    from_frame: int | None = Field(None, ge=0, le=1 << 40)


class Move(Body):
    """Another place among those that wait."""

    position: int = Field(ge=1, lt=1 << 31)


def read_body(kind: type[Kind], content: Mapping[str, Any]) -> Kind:
    """Return the fields of a request as one of these kinds. Raises InputError, which names the field, for what it does
    not take."""
    known, takes_settings = set(kind.model_fields), kind.model_config.get("extra") == "allow"
    for name in content:
        if name not in known and not (takes_settings and name.startswith(SETTING)):
            raise unknown_name("field", name[:100], known)
        # JSON has both kinds, and pydantic takes one for the other: true frames would be one.
        if isinstance(content[name], bool) and name in known and kind.model_fields[name].annotation is not bool:
            raise InputError(f"--{name} is {json.dumps(content[name])}, which it cannot be: give a number or a text")
    try:
        return kind.model_validate(content)
    except ValidationError as problems:
        first = problems.errors(include_url=False, include_context=False)[0]
        name, found = str(first["loc"][0]), json.dumps(first["input"], default=str)[:60]
        raise InputError(f"--{name} is {found}, which it cannot be: {first['msg'].lower()}") from None


def wanted(body: Create, own_fps: float, upload: str | None) -> VideoJob:
    """Return the job of a request; `own_fps` are the frames per second of its model, `upload` what it begins with.

    Raises InputError for prompts, lengths, rates and settings that cannot be.
    """
    fps = None if body.fps is None else read_rate(str(body.fps))
    if fps is not None:
        try:
            exact_rate(fps)
        except InputError as error:
            # By its option, as a refusal names the field that it is of.
            raise InputError(f"--{error}") from None
    frames = _frames(body.num_frames, body.seconds, fps or own_fps) or VideoJob.frames
    prompts = told_prompts(body.prompt, body.prompts, frames, fps or own_fps)
    if prompts is None:
        raise InputError("--prompt is missing; write what the video should show")
    return VideoJob(
        prompts=prompts,
        model=body.model,
        sampler=body.sampler,
        settings=_settings(body),
        frames=frames,
        seed=body.seed,
        guidance=body.guidance_scale,
        negative_prompt=body.negative_prompt,
        steps=body.num_inference_steps,
        size=body.size,
        fps=fps,
        crf=body.crf,
        segment=body.segment,
        keep_states=body.keep_states,
        input_reference=upload,
    )


def longer(body: Extend, fps: float) -> ExtendJob:
    """Return the job of a request for a video of so many frames per second; raises as `wanted`."""
    frames = _frames(body.num_frames, body.seconds, fps)
    if frames is None:
        raise InputError("--seconds is missing; say how much longer, in seconds or as num_frames")
    return ExtendJob(parent=body.parent, frames=frames, prompts=told_prompts(body.prompt, body.prompts, frames, fps))


def otherwise(parent: Job, body: Remix) -> RedoJob:
    """Return the job of a request; raises as `wanted`."""
    if body.from_frame is not None and body.from_seconds is not None:
        raise InputError("--from-frame and --from-seconds mean the same; give one of them")
    frame = body.from_frame or round((body.from_seconds or 0) * parent.fps)
    rest = max(1, parent.frames_total - frame)
    prompts = told_prompts(body.prompt, body.prompts, rest, parent.fps)
    return RedoJob(parent=parent.id, frame=frame, prompts=prompts, seed=body.seed, keep_queue=body.keep_queue)


def told_prompts(prompt: str | None, prompts: Prompts | None, frames: int | None, fps: float) -> PromptTimeline | None:
    """Return the prompts of a request, None where it has none. Raises InputError for those that cannot be."""
    if prompts is None:
        return None if prompt is None else PromptTimeline.constant(prompt)
    if not prompts:
        # As text, an empty list or object would be a prompt of two brackets.
        raise InputError("--prompts says nothing; write what the video should show")
    text = prompts if isinstance(prompts, str) else json.dumps(prompts)
    return _own(text) or read_prompts(text, frames, fps)


def _own(text: str) -> PromptTimeline | None:
    """Return prompts in the spelling in which a video tells them: [{start, text}], in frames; None for others."""
    try:
        content = parse_json(text)
    except ValueError:
        return None
    if not isinstance(content, list) or not content:
        return None
    if not all(isinstance(one, dict) and one.keys() == {"start", "text"} for one in content):
        return None
    if not all(type(one["start"]) is int and isinstance(one["text"], str) for one in content):
        raise InputError("--prompts: start is the number of a frame, and text a text")
    return PromptTimeline(tuple(one["start"] for one in content), tuple(one["text"] for one in content))


def _frames(frames: int | None, seconds: float | None, fps: float) -> int | None:
    if frames is not None and seconds is not None:
        raise InputError("--seconds and --frames say the same; give one of them")
    return frames if seconds is None else max(1, round(seconds * fps))


def _settings(body: Create) -> dict[str, Any]:
    """Return the settings of the sampler; the text of a form is read as JSON where it is a value."""
    known = {field.name for field in fields(sampler_class(body.sampler))} - FILES  # pyright: ignore[reportArgumentType]
    settings: dict[str, Any] = {}
    for name, value in (body.model_extra or {}).items():
        setting = name.removeprefix(SETTING)
        if setting not in known:
            raise unknown_name(f"setting of {body.sampler}", setting[:100], known)
        settings[setting] = read_word(value) if isinstance(value, str) else value
    return settings
