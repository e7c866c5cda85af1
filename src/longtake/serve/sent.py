"""What is sent of a video: its bytes, as far as they are, pictures, what lies beside it, and news."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from longtake.serve.guard import ApiError
from longtake.serve.job import OPEN, Job
from longtake.serve.rows import UnknownJobError
from longtake.serve.service import Service
from longtake.serve.stream import Committed, asked_range, blocks, grown, spritesheet, thumbnail

Variant = Literal["video", "thumbnail", "spritesheet"]
NEWS_SECONDS, STILL_SECONDS = 0.25, 15.0
"""How often news of a video are looked for, and after how long it is said that there are none."""
MEASURED = 4
"""Pieces that are measured between two looks, so that it is soon told how far the video is."""


def content(service: Service, job: Job, now: Committed, request: Request) -> Response:
    """Return the answer to a request for a video: all of it, a range of it, or what there is and what comes."""
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


def picture(path: Path, committed: Committed, variant: Variant, frame: int) -> Response:
    """Return the answer to a request for pictures of a video; a thumbnail is of `frame`."""
    if variant == "thumbnail":
        data = thumbnail(path, committed, frame)
        return Response(data, media_type="image/webp", headers={"cache-control": "no-cache"})
    sheet = spritesheet(path, committed)
    headers = {"x-sheet-columns": str(sheet.columns), "x-sheet-frames": ",".join(map(str, sheet.frames))}
    return Response(sheet.data, media_type="image/jpeg", headers={**headers, "cache-control": "no-cache"})


def sidecar(path: Path, kind: str) -> Response:
    """Return the answer to a request for a file that lies beside a video. Raises ApiError where there is none yet."""
    try:
        return Response(path.read_bytes(), media_type=kind)
    except FileNotFoundError:
        raise ApiError(404, "there is none before the video has begun", "video_not_ready") from None


async def news(service: Service, job: Job) -> AsyncIterator[str]:
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
        more = await run_in_threadpool(figures.read, MEASURED)
        if rows := await run_in_threadpool(figures.since, measured):
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
