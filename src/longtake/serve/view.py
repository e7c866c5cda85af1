"""What a client reads: a video, as OpenAI's clients know it and longtake adds to it, lists of them, and refusals."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from longtake.request import PromptTimeline
from longtake.serve.job import Asked, ExtendJob, Job, RedoJob, Status
from longtake.serve.schema import SETTING

_STATUS: Mapping[Status, Literal["queued", "in_progress", "completed", "failed"]] = {
    "queued": "queued",
    "in_progress": "in_progress",
    "paused": "queued",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "failed",
}


class Prompt(BaseModel):
    """A prompt, and the frame from which it holds."""

    model_config = ConfigDict(extra="forbid", strict=True)

    start: int = Field(ge=0)
    text: str


class ErrorDetail(BaseModel):
    """Why a request was not done, or a video not made."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """What is sent in place of an answer."""

    error: ErrorDetail


class VideoError(BaseModel):
    """Why a video was not made."""

    code: str
    message: str


class Video(BaseModel):
    """A video that is or will be made. What stands after `error` is longtake's own."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["video"] = "video"
    model: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    progress: int = Field(ge=0, le=100)
    created_at: int
    completed_at: int | None
    expires_at: int | None = None
    size: str
    seconds: str
    prompt: str
    remixed_from_video_id: str | None
    error: VideoError | None
    state: Status
    num_frames: int
    frames_ready: int
    """Frames that can be read and play."""
    frames_done: int
    """Frames that are made; some wait for their piece of the file to fill."""
    fps: float
    sampler: str
    seed: int
    prompts: list[Prompt]
    position: int | None
    eta_seconds: float | None
    frames_per_second: float | None
    memory_bytes: int | None
    doing: str
    """What goes on while no frames come."""
    started_at: int | None
    extended_from_video_id: str | None
    from_frame: int | None
    can_turn: bool
    """Whether it takes other prompts on the way."""
    request: dict[str, Any]
    """What was asked for, in the fields of a request: what to send to make it again."""


class VideoList(BaseModel):
    """A page of videos."""

    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(BaseModel):
    """A video that is gone."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


def shown(job: Job, frames_ready: int) -> Video:
    """Return a job as a client reads it."""
    share = job.frames_done / max(job.frames_total, 1)
    works = job.status == "in_progress"
    error = None if job.error is None else VideoError(code=job.error.code, message=job.error.message)
    if job.status == "cancelled":
        error = VideoError(code="cancelled", message="the video was given up before it was complete")
    return Video(
        id=job.id,
        model=job.model,
        status=_STATUS[job.status],
        state=job.status,
        progress=100 if job.status == "completed" else min(99, int(100 * share)),
        created_at=int(job.created_at),
        started_at=_whole(job.started_at),
        completed_at=_whole(job.completed_at),
        size=f"{job.width}x{job.height}",
        seconds=f"{round(job.frames_total / job.fps, 3):.10g}",
        prompt=" | ".join(job.prompts.texts),
        prompts=[Prompt.model_validate(one) for one in spelled(job.prompts)],
        remixed_from_video_id=job.parent if isinstance(job.asked, RedoJob) else None,
        extended_from_video_id=job.parent if isinstance(job.asked, ExtendJob) else None,
        from_frame=job.from_frame,
        error=error if job.status in ("failed", "cancelled") else None,
        num_frames=job.frames_total,
        frames_ready=frames_ready,
        frames_done=job.frames_done,
        fps=job.fps,
        sampler=job.sampler,
        seed=job.seed,
        position=job.position,
        eta_seconds=job.seconds_left if works else None,
        frames_per_second=job.rate or None if works else None,
        memory_bytes=job.memory or None if works else None,
        doing=job.doing if works else "",
        can_turn=job.can_turn,
        request=_request(job.asked),
    )


def spelled(prompts: PromptTimeline) -> list[dict[str, Any]]:
    """Return prompts as a video tells them: [{start, text}], in frames."""
    return [{"start": start, "text": text} for start, text in zip(prompts.starts, prompts.texts, strict=True)]


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)


def _request(asked: Asked) -> dict[str, Any]:
    """Return what was asked for in the fields of a request, without those that have their default."""
    told = None if asked.prompts is None else spelled(asked.prompts)
    if isinstance(asked, ExtendJob):
        content: dict[str, Any] = {"video": {"id": asked.parent}, "num_frames": asked.frames}
    elif isinstance(asked, RedoJob):
        content = {"from_frame": asked.frame, "seed": asked.seed, "keep_queue": asked.keep_queue}
    else:
        content = {
            "model": asked.model,
            "num_frames": asked.frames,
            "size": asked.size,
            "fps": asked.fps,
            "seed": asked.seed,
            "guidance_scale": asked.guidance,
            "negative_prompt": asked.negative_prompt or None,
            "num_inference_steps": asked.steps,
            "sampler": asked.sampler,
            "crf": asked.crf,
            "segment": asked.segment,
            "keep_states": asked.keep_states,
            **{f"{SETTING}{name}": value for name, value in asked.settings.items()},
        }
    return {name: value for name, value in {"prompts": told, **content}.items() if value is not None}
