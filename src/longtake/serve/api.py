"""The HTTP interface: `/v1/videos` as OpenAI's clients know it, what longtake adds to it, and the files of the page."""

import asyncio
import base64
import binascii
import io
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from PIL import Image, ImageOps
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from longtake import __version__
from longtake.errors import InputError, LongtakeError
from longtake.models import model_spec
from longtake.report import Order, report_path, subtitle_path
from longtake.serve import schema
from longtake.serve.figures import Figures
from longtake.serve.foresee import QuotaError, steering_of
from longtake.serve.guard import FAULT, ApiError, Guard, told
from longtake.serve.job import OPEN, Job, VideoJob, order_of
from longtake.serve.meter import Meter
from longtake.serve.options import options
from longtake.serve.queue import Queue
from longtake.serve.realtime import session
from longtake.serve.rows import UnknownJobError
from longtake.serve.settings import Access
from longtake.serve.stream import Committed, Growth, asked_range, blocks, grown, spritesheet, thumbnail
from longtake.video import durable

PAGE = Path(__file__).parent / "page"
MOST_JSON, MOST_TEXT = 1 << 24, 1 << 20
"""Bytes of a request that is JSON, pictures included; and of a text in a form."""
MOST_PIXELS, MOST_SIDE = 64_000_000, 8192
PICTURES = ("PNG", "JPEG", "WEBP")
NEWS_SECONDS, STILL_SECONDS = 0.25, 15.0
"""How often news of a video are looked for, and after how long it is said that there are none."""
Planner = Callable[[Order], Mapping[str, Any]]
"""Says what a video takes, or raises as a command would."""
Id = Annotated[str, "the id of a video"]
Variant = Literal["video", "thumbnail", "spritesheet"]


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

    def view(self, job: Job) -> schema.Video:
        """Return a job as clients read it."""
        ready = job.frames_done if job.status == "completed" else Growth(self.queue.path(job)).now().frames
        return schema.shown(job, ready)

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
        path = self.queue.folder / f"video_{secrets.token_hex(12)}.mp4"
        if "video" in content:
            return self._steered(content, path)
        asked = self._asked(content, None)
        taken = self._planner(order_of(asked, path, self.queue.uploads, self.queue.computing))
        return {**taken, "prompts": schema.spelled(asked.prompts)}

    def _steered(self, content: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
        """Return from which frame on a video is made that goes on from another, how many it gets, and from which frame
        on its prompts hold fully; less while the other is still being made. Raises as `extend` and `redo`."""
        parent = self.job(schema.read_body(schema.Extend, {"video": content["video"]}).video.id)
        rest = {name: value for name, value in content.items() if name != "video"}
        is_redo = bool({"from_frame", "from_seconds"} & content.keys())
        asked = (
            schema.otherwise(parent, schema.read_body(schema.Remix, rest))
            if is_redo
            else schema.longer(schema.read_body(schema.Extend, content), parent.fps)
        )
        if parent.status in ("queued", "in_progress") or parent.worker is not None:
            return {"made_from": None, "frames": None, "holds_from": None, "notes": []}
        steering = steering_of(asked, self.queue.path(parent), path)
        return {
            "made_from": steering.made_from,
            "frames": steering.order.frames,
            "holds_from": steering.holds,
            "notes": list(steering.notes),
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
        return ApiError(400, message, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower(), param)

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


def create_app(queue: Queue, access: Access, planner: Planner) -> Guard:
    """Return the application of a queue."""
    service, meter = Service(queue, planner), Meter(queue)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watch = asyncio.create_task(meter.watch())
        yield
        watch.cancel()

    app = FastAPI(
        title="longtake",
        version=__version__,
        summary="Long video, as a queue of runs that cannot be lost.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses={code: {"model": schema.ErrorBody} for code in (400, 401, 403, 413)},
    )
    app.openapi = partial(_described, app.openapi)
    _tell_errors(app, service)
    _videos(app, service)
    _one_video(app, service)
    _steering(app, service)
    _about(app, service, meter)

    @app.websocket("/v1/realtime/video")
    async def realtime(socket: WebSocket) -> None:
        await session(socket, service)

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=PAGE))
    return Guard(app, access)


def _described(plain: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the description without the status that the framework has for requests it cannot read: here, it is 400."""
    content = plain()
    for route in content["paths"].values():
        for method in route.values():
            method["responses"].pop("422", None)
    return content


def _tell_errors(app: FastAPI, service: Service) -> None:
    @app.exception_handler(LongtakeError)
    async def refused(request: Request, error: LongtakeError) -> JSONResponse:
        return service.refusal(error).response()

    @app.exception_handler(ApiError)
    async def not_done(request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        # It goes on to the guard, who prints it.
        return FAULT.response()

    @app.exception_handler(HTTPException)
    async def lost(request: Request, error: HTTPException) -> Response:
        answer = ApiError(error.status_code, str(error.detail), _CODES.get(error.status_code, "bad_request")).response()
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(RequestValidationError)
    async def unread(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        name = str(first["loc"][-1])
        return ApiError(400, f"{name}: {first['msg'].lower()}", "invalid_value", name).response()


_CODES = {404: "not_found", 405: "method_not_allowed"}


def _takes(kind: type[schema.Body], picture: bool = False) -> dict[str, Any]:
    """Return what the description of a route says of its body: JSON, or a form, as OpenAI's clients send."""
    content = kind.model_json_schema()
    content = _whole(content, content.pop("$defs", {}))
    form = dict(content)
    if picture:
        address = {"type": "string", "description": "A data: URL of a picture."}
        content = content | {"properties": {**content["properties"], "input_reference": address}}
        form["properties"] = {**form["properties"], "input_reference": {"type": "string", "format": "binary"}}
    kinds = {"application/json": {"schema": content}, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": kinds}}


def _whole(content: Any, parts: Mapping[str, Any]) -> Any:
    """Return a schema with its parts in the places that refer to them: the description has no room for them."""
    match content:
        case {"$ref": str(name)}:
            return parts[name.rpartition("/")[2]]
        case dict():
            return {key: _whole(value, parts) for key, value in content.items()}
        case list():
            return [_whole(value, parts) for value in content]
    return content


_MISSING: dict[int | str, dict[str, Any]] = {404: {"model": schema.ErrorBody}}
_FULL: dict[int | str, dict[str, Any]] = {429: {"model": schema.ErrorBody}}
_UNREAD: dict[int | str, dict[str, Any]] = {415: {"model": schema.ErrorBody}}


def _videos(app: FastAPI, service: Service) -> None:
    @app.post("/v1/videos", responses=_FULL | _UNREAD, openapi_extra=_takes(schema.Create, picture=True))
    async def create(request: Request) -> schema.Video:
        """Let a video be made."""
        content, picture = await read_content(request)
        return await run_in_threadpool(lambda: service.view(service.create(content, picture)))

    @app.get("/v1/videos", responses=_MISSING)
    def list_videos(
        after: Annotated[str | None, Query(max_length=100)] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> schema.VideoList:
        """List videos, newest first."""
        found = service.queue.list(None if after is None else service.job(after).id, limit + 1, order)
        data = [service.view(job) for job in found[:limit]]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return schema.VideoList(data=data, first_id=first, last_id=last, has_more=len(found) > limit)

    @app.post("/v1/videos/extensions", responses=_MISSING | _FULL | _UNREAD, openapi_extra=_takes(schema.Extend))
    async def extend(request: Request) -> schema.Video:
        """Let a new video go on where another ends."""
        content, _ = await read_content(request)
        return await run_in_threadpool(lambda: service.view(service.extend(content)))


def _one_video(app: FastAPI, service: Service) -> None:
    queue = service.queue

    @app.get("/v1/videos/{id}", responses=_MISSING)
    def retrieve(id: Id) -> schema.Video:
        """Say how far a video is."""
        return service.view(service.job(id))

    @app.delete("/v1/videos/{id}", responses=_MISSING)
    def delete(id: Id) -> schema.Deleted:
        """Remove a video and its files."""
        queue.delete(service.job(id).id)
        return schema.Deleted(id=id)

    @app.head("/v1/videos/{id}/content", include_in_schema=False)
    @app.get(
        "/v1/videos/{id}/content",
        response_class=Response,
        responses=_MISSING
        | {
            200: {"content": {"video/mp4": {}, "image/webp": {}, "image/jpeg": {}}},
            206: {"content": {"video/mp4": {}}},
            304: {"description": "it is as it was"},
            409: {"model": schema.ErrorBody},
            416: {"description": "the range holds nothing yet"},
        },
    )
    async def content(id: Id, request: Request, variant: Variant = "video") -> Response:
        """Send the video, as far as it is, and on until it is complete; or a picture of it."""
        job = await run_in_threadpool(service.job, id)
        committed = await run_in_threadpool(Growth(queue.path(job)).now)
        if not (committed.bytes if variant == "video" else committed.frames):
            raise ApiError(409 if job.status in OPEN else 404, "the video has no frames yet", "video_not_ready")
        if variant == "video":
            return _content(service, job, committed, request)
        return await run_in_threadpool(_picture, queue.path(job), committed, variant)

    @app.get("/v1/videos/{id}/events", responses=_MISSING, response_class=StreamingResponse)
    async def events(id: Id) -> StreamingResponse:
        """Send news of a video (server-sent events) until it is over: `progress` with the video, `figures` of what it
        shows, and `done`."""
        job = await run_in_threadpool(service.job, id)
        return StreamingResponse(
            _news(service, job), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    @app.get("/v1/videos/{id}/figures", responses=_MISSING)
    def figures(id: Id, start: Annotated[int, Query(ge=0, le=1 << 40)] = 0) -> dict[str, Any]:
        """Return what is measured of the pieces of a video from a frame on, some of them at a time."""
        found = service.figures(service.job(id))
        more = found.read()
        return {"data": found.since(start), "has_more": more}

    @app.get("/v1/videos/{id}/report", responses=_MISSING, response_class=JSONResponse)
    def report(id: Id) -> Response:
        """Return the report from which the video can be made again."""
        return _sidecar(report_path(queue.path(service.job(id))), "application/json")

    @app.get("/v1/videos/{id}/prompts.vtt", responses=_MISSING, response_class=Response)
    def subtitles(id: Id) -> Response:
        """Return the prompts as subtitles."""
        return _sidecar(subtitle_path(queue.path(service.job(id))), "text/vtt; charset=utf-8")


def _steering(app: FastAPI, service: Service) -> None:
    queue = service.queue

    @app.post("/v1/videos/{id}/remix", responses=_MISSING | _FULL | _UNREAD, openapi_extra=_takes(schema.Remix))
    async def remix(id: Id, request: Request) -> schema.Video:
        """Let a new video be as this one up to a moment, and become another from there."""
        content, _ = await read_content(request)
        return await run_in_threadpool(lambda: service.view(service.redo(id, content)))

    @app.post("/v1/videos/{id}/prompts", responses=_MISSING | _UNREAD, openapi_extra=_takes(schema.Retell))
    async def tell(id: Id, request: Request) -> schema.Video:
        """Change the prompts of what has not begun."""
        content, _ = await read_content(request)
        return await run_in_threadpool(lambda: service.view(service.tell(id, content)))

    @app.post("/v1/videos/{id}/move", responses=_MISSING | _UNREAD, openapi_extra=_takes(schema.Move))
    async def move(id: Id, request: Request) -> schema.Video:
        """Give a waiting video another place."""
        content, _ = await read_content(request)
        body = schema.read_body(schema.Move, content)
        return await run_in_threadpool(lambda: service.view(queue.move(service.job(id).id, body.position)))

    @app.post("/v1/videos/{id}/cancel", responses=_MISSING)
    def cancel(id: Id) -> schema.Video:
        """Give a video up; what there is of it stays."""
        return service.view(queue.cancel(service.job(id).id))

    @app.post("/v1/videos/{id}/pause", responses=_MISSING)
    def pause(id: Id) -> schema.Video:
        """Let a video wait until it is resumed."""
        return service.view(queue.pause(service.job(id).id))

    @app.post("/v1/videos/{id}/resume", responses=_MISSING | _FULL)
    def resume(id: Id) -> schema.Video:
        """Let a video go on that was paused, given up, or has failed."""
        return service.view(queue.resume(service.job(id).id))


def _about(app: FastAPI, service: Service, meter: Meter) -> None:
    @app.get("/v1/options")
    def all_options() -> dict[str, Any]:
        """Return what a request may say: models, samplers, and their settings."""
        return options(service.queue.computing, service.queue.quota)

    @app.post("/v1/plan", responses=_UNREAD, openapi_extra=_takes(schema.Create))
    async def plan(request: Request) -> dict[str, Any]:
        """Say what a video would take: calls of the network, memory, disk, and time where it is known; and how its
        prompts were read."""
        content, _ = await read_content(request)
        return dict(await run_in_threadpool(service.plan, content))

    @app.get("/health")
    def health() -> dict[str, Any]:
        """Say whether videos are made, and why not."""
        halted = service.queue.halted()
        return {"status": "ok" if halted is None else "halted", "reason": halted and told(halted)[0]}

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def metrics() -> Response:
        """Return figures of the server, as Prometheus reads them."""
        content, kind = meter.exposed()
        return Response(content, media_type=kind)


async def read_content(request: Request) -> tuple[dict[str, Any], bytes | None]:
    """Return the fields of a request, which is JSON or a form, and the picture that came with it."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        async with request.form(max_files=1, max_fields=200, max_part_size=MOST_TEXT) as form:
            return await _read_form(form)
    if kind != "application/json":
        raise ApiError(415, "send application/json or multipart/form-data", "unsupported_media_type")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_JSON:
            raise ApiError(413, f"JSON may have {MOST_JSON} bytes; send a form", "request_too_large")
    try:
        content = json.loads(bytes(body))
    except (ValueError, RecursionError):
        raise InputError("the request is no JSON") from None
    if not isinstance(content, dict):
        raise InputError("the request is no JSON object")
    reference = content.pop("input_reference", None)
    return content, None if reference is None else _of_address(reference)


async def _read_form(form: FormData) -> tuple[dict[str, Any], bytes | None]:
    content: dict[str, Any] = {}
    picture = None
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != "input_reference":
                raise InputError(f"{name[:100]} takes no file; a picture goes into input_reference")
            picture = await value.read()
        elif found := re.fullmatch(r"(\w+)\[(\w+)\]", name):
            inner = content.setdefault(found[1], {})
            if isinstance(inner, dict):
                inner[found[2]] = value
        else:
            content[name] = value
    reference = content.pop("input_reference", None)
    return content, picture if reference is None else _of_address(reference)


def _of_address(reference: Any) -> bytes:
    """Return the picture that a data: URL holds."""
    address = reference.get("image_url") if isinstance(reference, dict) else reference
    start = re.match(r"data:image/[\w.+-]+;base64,", address) if isinstance(address, str) else None
    if not isinstance(address, str) or start is None:
        raise InputError("input_reference takes a picture: as a file of a form, or as a data: URL with base64")
    try:
        return base64.b64decode(address[start.end() :], validate=True)
    except binascii.Error:
        raise InputError("input_reference is no base64") from None


def read_upload(data: bytes) -> Image.Image:
    """Return a picture of somebody else's, turned as it is shown. Raises InputError for what is none, or too large."""
    try:
        picture = Image.open(io.BytesIO(data), formats=PICTURES)
        width, height = picture.size
        if width * height > MOST_PIXELS or max(width, height) > MOST_SIDE:
            raise InputError(f"input_reference has {width}x{height} pixels; a picture may have {MOST_SIDE} a side")
        turned = ImageOps.exif_transpose(picture).convert("RGB")
        turned.info.clear()
        return turned
    except InputError:
        raise
    except Exception:
        # Decoders fail on damaged files in more ways than they say.
        raise InputError(f"input_reference is no picture; send {', '.join(PICTURES)}") from None


def _content(service: Service, job: Job, now: Committed, request: Request) -> Response:
    """Return the answer to a request for a video."""
    path, over = service.queue.path(job), now.finished or job.status not in OPEN
    tag = f'"{job.id}-{now.bytes}-{now.checksum:08x}"' if over else f'"{job.id}-grows"'
    headers = {
        "etag": tag,
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache" if over else "no-store",
        "content-disposition": f'inline; filename="{job.file}"',
    }
    given = request.headers
    if over and tag in [one.strip().removeprefix("W/") for one in given.get("if-none-match", "").split(",")]:
        return Response(None, 304, headers)
    wanted = asked_range(given.get("range"), now.bytes if over else None)
    if given.get("if-range", tag) != tag:
        wanted = None
    whole = str(now.bytes) if over else "*"
    status, start, stop = 200, 0, now.bytes
    if wanted is not None:
        start, stop = wanted.start, min(wanted.stop, now.bytes)
        if stop <= start:
            return Response(None, 416, headers | {"content-range": f"bytes */{now.bytes}"})
        status, headers["content-range"] = 206, f"bytes {start}-{stop - 1}/{whole}"
    if over or wanted is not None:
        headers["content-length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(None, status, headers, "video/mp4")
    if over or wanted is not None:
        body = blocks(path, start, stop, finished=now.finished)
    else:
        body = grown(path, 0, partial(_is_over, service, job.id))
    return StreamingResponse(body, status, headers, "video/mp4")


async def _is_over(service: Service, id: str) -> bool:
    try:
        return (await run_in_threadpool(service.job, id)).status not in OPEN
    except UnknownJobError:
        return True


def _picture(path: Path, committed: Committed, variant: Variant) -> Response:
    if variant == "thumbnail":
        return Response(thumbnail(path, committed), media_type="image/webp", headers={"cache-control": "no-cache"})
    sheet = spritesheet(path, committed)
    headers = {"x-sheet-columns": str(sheet.columns), "x-sheet-frames": ",".join(map(str, sheet.frames))}
    return Response(sheet.data, media_type="image/jpeg", headers={**headers, "cache-control": "no-cache"})


def _sidecar(path: Path, kind: str) -> Response:
    try:
        return Response(path.read_bytes(), media_type=kind)
    except FileNotFoundError:
        raise ApiError(404, "there is none before the video has begun", "video_not_ready") from None


async def _news(service: Service, job: Job) -> AsyncIterator[str]:
    """Yield events of a video until it is over."""
    figures, told, measured, quiet = service.figures(job), None, 0, 0.0
    while True:
        try:
            job = await run_in_threadpool(service.job, job.id)
            video = await run_in_threadpool(service.view, job)
        except UnknownJobError:
            yield _event("deleted", {"id": job.id})
            return
        if video != told:
            yield _event("progress", video.model_dump())
            told, quiet = video, 0.0
        more = await run_in_threadpool(figures.read)
        if rows := figures.since(measured):
            yield _event("figures", {"data": rows})
            measured = rows[-1]["frame"] + 1
        if more:
            continue
        if job.status not in OPEN:
            yield _event("done", video.model_dump())
            return
        if quiet >= STILL_SECONDS:
            yield ": nothing new\n\n"
            quiet = 0.0
        await asyncio.sleep(NEWS_SECONDS)
        quiet += NEWS_SECONDS


def _event(name: str, content: Mapping[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(content)}\n\n"
