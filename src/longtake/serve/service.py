"""What can be done with a queue from outside: every route does one of these."""

import io
import re
import secrets
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from longtake.errors import InputError, LongtakeError
from longtake.models import model_spec
from longtake.report import Order
from longtake.serve import schema, view
from longtake.serve.body import read_upload
from longtake.serve.figures import Figures
from longtake.serve.foresee import QuotaError, rests, steering_of
from longtake.serve.guard import ApiError, told
from longtake.serve.job import Job, VideoJob, code_of, new_id, order_of
from longtake.serve.queue import Queue
from longtake.serve.rows import UnknownJobError
from longtake.serve.stream import Growth
from longtake.video import durable

Planner = Callable[[Order], Mapping[str, Any]]
"""Says what a video takes, or raises as a command would."""


class Service:
    """What the routes have in common."""

    def __init__(self, queue: Queue, planner: Planner) -> None:
        self.queue, self._planner = queue, planner
        self._figures = lru_cache(maxsize=32)(Figures)

    def job(self, id: str) -> Job:
        """Return a job. Raises UnknownJobError."""
        if not re.fullmatch(r"video_[0-9a-f]{1,64}", id):
            raise UnknownJobError("there is no such video")
        return self.queue.get(id)

    def view(self, job: Job) -> view.Video:
        """Return a job as clients read it."""
        ready = job.frames_done if job.status == "completed" else Growth(self.queue.path(job)).now().frames
        return view.shown(job, ready)

    def create(self, content: Mapping[str, Any], picture: bytes | None = None) -> Job:
        """Let a video be made. Raises as `Queue.add`."""
        asked = self._asked(content, None)
        upload = None if picture is None else self._kept(picture)
        try:
            return self.queue.add(asked if upload is None else self._asked(content, upload))
        except LongtakeError:
            if upload is not None:
                (self.queue.uploads / upload).unlink(missing_ok=True)
            raise

    def plan(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a video would take, and its prompts as they were read; of one that comes from another, see
        `_steered`. Raises as `create`."""
        path = self.queue.folder / f"{new_id()}.mp4"
        if "video" in content:
            return self._steered(content, path)
        asked = self._asked(content, None)
        taken = self._planner(order_of(asked, path, self.queue.uploads, self.queue.computing))
        return {**taken, "prompts": view.spelled(asked.prompts)}

    def _steered(self, content: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
        """Return from which frame on a video is made that goes on from another, how many it gets, from which frame on
        its prompts hold fully, and what there is to warn of; less while the other is still being made. Raises as
        `extend` and `redo`."""
        parent = self.job(schema.read_body(schema.Extend, {"video": content["video"]}).parent)
        rest = {name: value for name, value in content.items() if name != "video"}
        is_redo = bool({"from_frame", "from_seconds"} & content.keys())
        asked = (
            schema.otherwise(parent, schema.read_body(schema.Remix, rest))
            if is_redo
            else schema.longer(schema.read_body(schema.Extend, content), parent.fps)
        )
        if not rests(parent):
            return {
                "made_from": None,
                "frames": None,
                "holds_from": None,
                "dissolves": False,
                "notes": [],
                "warnings": [],
            }
        steering = steering_of(asked, self.queue.path(parent), path)
        return {
            "made_from": steering.made_from,
            "frames": steering.order.frames,
            "holds_from": steering.holds,
            "dissolves": steering.dissolves,
            "notes": list(steering.notes),
            "warnings": self._planner(steering.order)["warnings"],
        }

    def extend(self, content: Mapping[str, Any]) -> Job:
        """Let a video go on. Raises as `Queue.add`."""
        body = schema.read_body(schema.Extend, content)
        return self.queue.add(schema.longer(body, self.job(body.parent).fps))

    def redo(self, id: str, content: Mapping[str, Any]) -> Job:
        """Let a video become another. Raises as `Queue.add`."""
        return self.queue.add(schema.otherwise(self.job(id), schema.read_body(schema.Remix, content)))

    def tell(self, id: str, content: Mapping[str, Any]) -> Job:
        """Tell the prompts of a video anew. Raises as `Queue.tell`."""
        job, body = self.job(id), schema.read_body(schema.Retell, content)
        frame = body.from_frame
        if body.prompts is None and frame is None:
            frame = job.frames_done
        prompts = schema.told_prompts(body.prompt, body.prompts, max(1, job.frames_total - (frame or 0)), job.fps)
        if prompts is None:
            raise InputError("--prompts is missing; say what is to be shown from now on, or the whole story anew")
        return self.queue.tell(id, prompts, frame)

    def figures(self, job: Job) -> Figures:
        """Return what is measured of a video while it is made; those of some videos are kept."""
        return self._figures(self.queue.path(job))

    def refusal(self, error: LongtakeError) -> ApiError:
        """Return how an error of the library is told: by the names of a request, without the folders of the server."""
        message, param = told(self.queue.said(error))
        if isinstance(error, UnknownJobError):
            return ApiError(404, message, "video_not_found")
        if isinstance(error, QuotaError):
            return ApiError(429, message, "quota_exceeded")
        return ApiError(400, message, code_of(error), param)

    def _asked(self, content: Mapping[str, Any], upload: str | None) -> VideoJob:
        body = schema.read_body(schema.Create, content)
        computing = self.queue.computing
        own = model_spec(computing.model(body.model), **computing.loading.told)
        return schema.wanted(body, own.fps, upload)

    def _kept(self, picture: bytes) -> str:
        """Keep a picture that came with a request, by a name of ours, written anew: nothing else that it held stays."""
        name, buffer = f"{secrets.token_hex(12)}.png", io.BytesIO()
        read_upload(picture).save(buffer, "PNG")
        durable.write_durable(self.queue.uploads / name, buffer.getvalue())
        return name
