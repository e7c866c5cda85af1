"""A video over one socket, piece by piece as it is made, with other prompts on the way: `WS /v1/realtime/video`, in the
messages of vLLM-Omni.

The client sends session.start, then as it likes session.interaction, session.ping and session.stop; the server answers
video.start, and for every piece video.chunk_metadata and the piece itself as a binary message; the pieces in a row are
the MP4. The video is an ordinary job of the queue: a socket that breaks costs nothing, and its content is there.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import anyio
from fastapi import WebSocket, WebSocketDisconnect
from starlette.concurrency import run_in_threadpool

from longtake.errors import InputError, LongtakeError, unknown_name
from longtake.request import PromptTimeline
from longtake.serve.job import OPEN, Job
from longtake.serve.service import Service
from longtake.serve.stream import LOOK_SECONDS, Growth, Piece, first_piece, read_settled
from longtake.steer.video import find_video

START_SECONDS = 10.0
"""How long a client may take to say what it wants."""
MOST_START, MOST_CONTROL = 4 << 20, 128 << 10
"""Characters of its messages."""
_RENAMED = frozenset({"extra_params", "sampling_params", "type", "format", "width", "height"})


@dataclass(kw_only=True)
class _Events:
    """The interactions of a session, by their ids: those that wait, and those whose prompt is shown by now."""

    prompts: dict[str, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    active: list[str] = field(default_factory=list)


async def session(socket: WebSocket, service: Service) -> None:
    """Serve a client from its first message to its last."""
    await socket.accept()
    # Who has gone is told no more.
    with suppress(WebSocketDisconnect, RuntimeError):
        try:
            job = await _started(socket, service)
            if job is not None:
                await _Session(socket, service, job).run()
        except LongtakeError as error:
            refusal = service.refusal(error)
            await _tell_error(socket, str(refusal), refusal.code)
        await socket.close()


async def _started(socket: WebSocket, service: Service) -> Job | None:
    """Return the job that the first message asks for; None where none comes. Raises as `create`."""
    text = None
    with anyio.move_on_after(START_SECONDS):
        text = await _text(socket)
    if text is None:
        await _tell_error(socket, "session.start did not come in time", "timeout")
        return None
    message = _read(text, MOST_START)
    if message["type"] != "session.start":
        raise InputError(f"session.start comes first, not {message['type'][:50]}")
    if message.get("format", "m4s") != "m4s":
        raise InputError("format takes m4s, which is fragmented MP4")
    job = await run_in_threadpool(service.create, request_of(message))
    config = {name: value for name, value in message.items() if name not in ("type", "format")}
    await _tell(socket, {"type": "video.start", "request_id": job.id, "format": "m4s", "config": config})
    return job


def request_of(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a session.start as the fields of an ordinary request."""
    content = {name: value for name, value in message.items() if name not in _RENAMED}
    for group in ("sampling_params", "extra_params"):
        more = message.get(group) or {}
        if not isinstance(more, dict):
            raise InputError(f"{group} is no object")
        content = {**more, **content}
    width, height = message.get("width"), message.get("height")
    if (width is None) != (height is None):
        raise InputError("width and height come together")
    if width is not None:
        content["size"] = f"{width}x{height}"
    return content


class _Session:
    """A video that is made for a client that listens."""

    def __init__(self, socket: WebSocket, service: Service, job: Job) -> None:
        self._socket, self._service, self._job = socket, service, job
        self._path = service.queue.path(job)
        self._events, self._lock = _Events(), anyio.Lock()
        self._stopped = False
        self._chunks = 0

    async def run(self) -> None:
        """Send pieces and take messages until the video is over, or the client has gone."""
        async with anyio.create_task_group() as both:
            both.start_soon(self._heard, both.cancel_scope)
            # Who has gone is told no more.
            with suppress(WebSocketDisconnect, RuntimeError):
                await self._told()
            both.cancel_scope.cancel()

    async def _heard(self, both: anyio.CancelScope) -> None:
        try:
            await self._listen()
        except (WebSocketDisconnect, RuntimeError):
            both.cancel()

    async def _told(self) -> None:
        try:
            await self._send()
        except (LongtakeError, FileNotFoundError):
            problem = "the video was deleted on the way"
            await self._say({"type": "error", "message": problem, "code": "video_not_found"})

    async def _send(self) -> None:
        growth, place, frames = Growth(self._path), 0, 0
        while True:
            job = await self._ask(lambda: self._service.queue.get(self._job.id))
            over, now = job.status not in OPEN, growth.now()
            # The header goes with the first piece.
            while place < now.bytes:
                piece = await run_in_threadpool(first_piece, self._path, place, now.bytes, frames)
                if piece is None:
                    break
                await self._send_piece(piece)
                place, frames = piece.stop, piece.first + piece.frames
            if over or self._stopped:
                break
            await anyio.sleep(LOOK_SECONDS)
        if job.status == "failed" and job.error is not None:
            await self._say({"type": "error", "message": job.error.message, "code": job.error.code})
        done = {"type": "session.done", "request_id": job.id, "chunks": self._chunks}
        await self._say({**done, "stopped": self._stopped or job.status == "cancelled"})

    async def _send_piece(self, piece: Piece) -> None:
        data = await run_in_threadpool(read_settled, self._path, piece.start, piece.stop, finished=False)
        started = await run_in_threadpool(self._begun, piece)
        events = self._events
        replaced = events.active if started else []
        events.active = started[-1:] or events.active
        about = {
            "type": "video.chunk_metadata",
            "request_id": self._job.id,
            "kind": "media",
            "transport_chunk_index": self._chunks,
            "generation_chunk_index": self._chunks,
            "num_frames": piece.frames,
            "byte_length": len(data),
            "started_event_ids": started,
            "active_event_ids": list(events.active),
            "completed_event_ids": [*replaced, *started[:-1]],
            "first_frame": piece.first,
        }
        async with self._lock:
            await _tell(self._socket, about)
            await self._socket.send_bytes(data)
        self._chunks += 1

    def _begun(self, piece: Piece) -> list[str]:
        """Return the interactions whose prompt is shown from a frame of this piece on, or was before."""
        if not self._events.waiting:
            return []
        with suppress(LongtakeError):
            video = find_video(self._path)
            if video is not None:
                return self._shown(video.order.request.prompts, piece)
        return []

    def _shown(self, prompts: PromptTimeline, piece: Piece) -> list[str]:
        events, found = self._events, list[str]()
        last = prompts.at(piece.first + piece.frames - 1)
        texts = list(prompts.texts[: last + 1])
        for id in list(events.waiting):
            if events.prompts[id] in texts[1:]:
                found.append(id)
                events.waiting.remove(id)
        return found

    async def _listen(self) -> None:
        answers: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
            "session.ping": self._pong,
            "session.stop": self._stop,
            "session.interaction": self._interact,
        }
        while not self._stopped:
            event_id = None
            try:
                message = _read(await _text(self._socket), MOST_CONTROL)
                event_id = _event_id(message)
                if message["type"] not in answers:
                    raise unknown_name("message", message["type"][:50], answers)
                await answers[message["type"]](message)
            except LongtakeError as error:
                refusal = self._service.refusal(error)
                code = "interaction_failed" if event_id else refusal.code
                problem = {"type": "error", "request_id": self._job.id, "event_id": event_id}
                await self._say({**problem, "code": code, "message": str(refusal)})

    async def _pong(self, message: Mapping[str, Any]) -> None:
        await self._say({"type": "session.pong"})

    async def _stop(self, message: Mapping[str, Any]) -> None:
        with suppress(LongtakeError):
            await self._ask(lambda: self._service.queue.cancel(self._job.id))
        self._stopped = True

    async def _interact(self, message: Mapping[str, Any]) -> None:
        interaction = message.get("interaction")
        event = interaction.get("event") if isinstance(interaction, dict) else None
        prompt = event.get("prompt") if isinstance(event, dict) else None
        if not isinstance(prompt, str) or not prompt.strip():
            raise InputError("session.interaction takes an interaction with an event with a prompt")
        assert isinstance(interaction, dict) and isinstance(event, dict)
        for name in (event.keys() - {"prompt"}) | (interaction.keys() - {"event", "event_id", "transition_chunks"}):
            raise InputError(f"{name[:50]} is nothing that a session takes on the way; it takes a prompt")
        if interaction.get("transition_chunks") not in (None, 0):
            raise InputError("transition_chunks takes 0: how softly a prompt takes hold is the sampler's")
        id = _event_id(message) or uuid4().hex
        if id in self._events.prompts:
            raise InputError(f"event_id {id[:50]} was there before")
        job = await self._ask(lambda: self._service.queue.get(self._job.id))
        told = PromptTimeline.constant(prompt)
        await self._ask(lambda: self._service.queue.tell(job.id, told, job.frames_done))
        self._events.prompts[id] = prompt
        self._events.waiting.append(id)
        await self._say({"type": "session.interaction.queued", "request_id": job.id, "event_id": id})

    async def _ask(self, call: Callable[[], Job]) -> Job:
        return await run_in_threadpool(call)

    async def _say(self, message: Mapping[str, Any]) -> None:
        async with self._lock:
            await _tell(self._socket, message)


async def _text(socket: WebSocket) -> str:
    """Return the next message. Raises WebSocketDisconnect at the end, InputError for one of bytes."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1000))
    if message.get("text") is None:
        raise InputError("messages are JSON texts, not bytes")
    return message["text"]


def _read(text: str, most: int) -> dict[str, Any]:
    """Return a message. Raises InputError for what is none."""
    if len(text) > most:
        raise InputError(f"a message may have {most} characters")
    try:
        # NaN and Infinity, which Python reads, are no numbers of JSON, nor of an int.
        message = json.loads(text, parse_constant=int)
    except (ValueError, RecursionError):
        raise InputError("the message is no JSON") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise InputError("the message is no object with a type")
    return message


def _event_id(message: Mapping[str, Any]) -> str | None:
    interaction = message.get("interaction")
    id = interaction.get("event_id") if isinstance(interaction, dict) else None
    if id is not None and not (isinstance(id, str) and 0 < len(id) <= 200 and id.isprintable()):
        raise InputError("event_id is no text of 1 to 200 characters that can be printed")
    return id


async def _tell_error(socket: WebSocket, message: str, code: str) -> None:
    await _tell(socket, {"type": "error", "message": message, "code": code})


async def _tell(socket: WebSocket, message: Mapping[str, Any]) -> None:
    # In ASCII: what a client has sent may hold halves of signs, which no text frame can.
    await socket.send_text(json.dumps(message))
