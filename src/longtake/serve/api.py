"""The HTTP interface: `/v1/videos` as OpenAI's clients know it, what longtake adds to it, and the files of the page."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from html import escape
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from longtake import __version__
from longtake.errors import LongtakeError
from longtake.serve import schema, sent, view
from longtake.serve.body import read_content
from longtake.serve.guard import FAULT, ApiError, Guard, told
from longtake.serve.job import OPEN
from longtake.serve.meter import Meter
from longtake.serve.options import options
from longtake.serve.queue import Queue
from longtake.serve.realtime import session
from longtake.serve.service import Planner, Service
from longtake.serve.settings import Access
from longtake.serve.stream import Growth
from longtake.video.files import report_path, subtitle_path

PAGE = Path(__file__).parent / "page"
Id = Annotated[str, "the id of a video"]


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
        responses={code: {"model": view.ErrorBody} for code in (400, 401, 403, 413)},
    )
    app.openapi = partial(_described, app.openapi)
    _tell_errors(app, service)
    _videos(app, service)
    _one_video(app, service)
    _beside(app, service)
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


def _told(described: Mapping[str, Any]) -> str:
    """Return the description as a page for people, which needs nothing from elsewhere."""
    parts = [f"<!doctype html><title>longtake</title><h1>longtake {escape(__version__)}</h1>"]
    for path, route in described["paths"].items():
        for method, about in route.items():
            parts.append(
                f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(about.get('description', ''))}"
            )
            body = about.get("requestBody", {}).get("content", {}).get("multipart/form-data", {}).get("schema", {})
            rows = [
                *about.get("parameters", ()),
                *({"name": name, **one} for name, one in body.get("properties", {}).items()),
            ]
            fields = (f"<dt><code>{escape(row['name'])}</code><dd>{escape(row.get('description', ''))}" for row in rows)
            parts.append(f"<dl>{''.join(fields)}</dl>")
    return "\n".join(parts)


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


_MISSING: dict[int | str, dict[str, Any]] = {404: {"model": view.ErrorBody}}
_FULL: dict[int | str, dict[str, Any]] = {429: {"model": view.ErrorBody}}
_UNREAD: dict[int | str, dict[str, Any]] = {415: {"model": view.ErrorBody}}


def _videos(app: FastAPI, service: Service) -> None:
    @app.post("/v1/videos", responses=_FULL | _UNREAD, openapi_extra=_takes(schema.Create, picture=True))
    async def create(request: Request) -> view.Video:
        """Let a video be made."""
        content, picture = await read_content(request)
        return await run_in_threadpool(lambda: service.view(service.create(content, picture)))

    @app.get("/v1/videos", responses=_MISSING)
    def list_videos(
        after: Annotated[str | None, Query(max_length=100)] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> view.VideoList:
        """List videos, newest first."""
        found = service.queue.list(None if after is None else service.job(after).id, limit + 1, order)
        data = [service.view(job) for job in found[:limit]]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return view.VideoList(data=data, first_id=first, last_id=last, has_more=len(found) > limit)

    @app.post("/v1/videos/extensions", responses=_MISSING | _FULL | _UNREAD, openapi_extra=_takes(schema.Extend))
    async def extend(request: Request) -> view.Video:
        """Let a new video go on where another ends."""
        content, _ = await read_content(request)
        return await run_in_threadpool(lambda: service.view(service.extend(content)))


def _one_video(app: FastAPI, service: Service) -> None:
    queue = service.queue

    @app.get("/v1/videos/{id}", responses=_MISSING)
    def retrieve(id: Id) -> view.Video:
        """Say how far a video is."""
        return service.view(service.job(id))

    @app.delete("/v1/videos/{id}", responses=_MISSING)
    def delete(id: Id) -> view.Deleted:
        """Remove a video and its files."""
        queue.delete(service.job(id).id)
        return view.Deleted(id=id)

    @app.head("/v1/videos/{id}/content", include_in_schema=False)
    @app.get(
        "/v1/videos/{id}/content",
        response_class=Response,
        responses=_MISSING
        | {
            200: {"content": {"video/mp4": {}, "image/webp": {}, "image/jpeg": {}}},
            206: {"content": {"video/mp4": {}}},
            304: {"description": "it is as it was"},
            409: {"model": view.ErrorBody},
            416: {"description": "the range holds nothing yet"},
        },
    )
    async def content(
        id: Id, request: Request, variant: sent.Variant = "video", frame: Annotated[int, Query(ge=0, le=1 << 40)] = 0
    ) -> Response:
        """Send the video, as far as it is, and on until it is complete; or a picture of it, as the thumbnail of a
        frame."""
        job = await run_in_threadpool(service.job, id)
        committed = await run_in_threadpool(Growth(queue.path(job)).now)
        if not (committed.bytes if variant == "video" else committed.frames):
            raise ApiError(409 if job.status in OPEN else 404, "the video has no frames yet", "video_not_ready")
        if variant == "video":
            return sent.content(service, job, committed, request)
        return await run_in_threadpool(sent.picture, queue.path(job), committed, variant, frame)


def _beside(app: FastAPI, service: Service) -> None:
    queue = service.queue

    @app.get("/v1/videos/{id}/events", responses=_MISSING, response_class=StreamingResponse)
    async def events(id: Id) -> StreamingResponse:
        """Send news of a video (server-sent events) until it is over: `progress` with the video, `figures` of what it
        shows, and `done`."""
        job = await run_in_threadpool(service.job, id)
        return StreamingResponse(
            sent.news(service, job), media_type="text/event-stream", headers={"cache-control": "no-store"}
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
        return sent.sidecar(report_path(queue.path(service.job(id))), "application/json")

    @app.get("/v1/videos/{id}/prompts.vtt", responses=_MISSING, response_class=Response)
    def subtitles(id: Id) -> Response:
        """Return the prompts as subtitles."""
        return sent.sidecar(subtitle_path(queue.path(service.job(id))), "text/vtt; charset=utf-8")


def _steering(app: FastAPI, service: Service) -> None:
    queue = service.queue

    @app.post("/v1/videos/{id}/remix", responses=_MISSING | _FULL | _UNREAD, openapi_extra=_takes(schema.Remix))
    async def remix(id: Id, request: Request) -> view.Video:
        """Let a new video be as this one up to a moment, and become another from there."""
        content, _ = await read_content(request)
        return await run_in_threadpool(lambda: service.view(service.redo(id, content)))

    @app.post("/v1/videos/{id}/prompts", responses=_MISSING | _UNREAD, openapi_extra=_takes(schema.Retell))
    async def tell(id: Id, request: Request) -> view.Video:
        """Change the prompts of what has not begun."""
        content, _ = await read_content(request)
        return await run_in_threadpool(lambda: service.view(service.tell(id, content)))

    @app.post("/v1/videos/{id}/move", responses=_MISSING | _UNREAD, openapi_extra=_takes(schema.Move))
    async def move(id: Id, request: Request) -> view.Video:
        """Give a waiting video another place."""
        content, _ = await read_content(request)
        body = schema.read_body(schema.Move, content)
        return await run_in_threadpool(lambda: service.view(queue.move(service.job(id).id, body.position)))

    @app.post("/v1/videos/{id}/cancel", responses=_MISSING)
    def cancel(id: Id) -> view.Video:
        """Give a video up; what there is of it stays."""
        return service.view(queue.cancel(service.job(id).id))

    @app.post("/v1/videos/{id}/pause", responses=_MISSING)
    def pause(id: Id) -> view.Video:
        """Let a video wait until it is resumed."""
        return service.view(queue.pause(service.job(id).id))

    @app.post("/v1/videos/{id}/resume", responses=_MISSING | _FULL)
    def resume(id: Id) -> view.Video:
        """Let a video go on that was paused, given up, or has failed."""
        return service.view(queue.resume(service.job(id).id))


def _about(app: FastAPI, service: Service, meter: Meter) -> None:
    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(_told(app.openapi()))

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
