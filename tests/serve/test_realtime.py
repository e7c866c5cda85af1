"""A video over a socket: pieces in a row are its file, and messages are those of vLLM-Omni."""

import json
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from longtake.serve.realtime import request_of
from longtake.serve.stream import read_settled

from .conftest import SOCKET, TOY, Server

START = {
    "type": "session.start",
    "format": "m4s",
    "model": "toy",
    "prompt": "a red car",
    "width": 16,
    "height": 16,
    "num_frames": 40,
    "extra_params": {"sampler": "chunked"},
}


def piece(socket: Any) -> tuple[dict[str, Any], bytes]:
    """A message about a piece, and the piece."""
    about = socket.receive_json()
    assert about["type"] == "video.chunk_metadata", about
    data = socket.receive_bytes()
    assert about["byte_length"] == len(data) and about["kind"] == "media"
    return about, data


def test_pieces_in_a_row_are_the_file(server: Server) -> None:
    with server.client.websocket_connect(SOCKET) as socket:
        socket.send_json(START)
        begun = socket.receive_json()
        assert begun["type"] == "video.start" and begun["format"] == "m4s" and begun["config"]["prompt"] == "a red car"
        job = server.claim()
        assert begun["request_id"] == job.id and (job.frames_total, job.sampler) == (40, "chunked")
        server.make(job, stop=24)
        found = [piece(socket) for _ in range(3)]
        socket.send_json({"type": "session.ping"})
        assert socket.receive_json() == {"type": "session.pong"}
        server.make(job)
        found += [piece(socket) for _ in range(2)]
        done = socket.receive_json()
        assert done == {"type": "session.done", "request_id": job.id, "chunks": 5, "stopped": False}
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()
    assert [about["num_frames"] for about, _ in found] == [8] * 5
    assert [about["transport_chunk_index"] for about, _ in found] == list(range(5))
    path = server.queue.path(job)
    assert b"".join(data for _, data in found) == read_settled(path, 0, path.stat().st_size, finished=False)


def test_another_prompt_on_the_way(server: Server) -> None:
    with server.client.websocket_connect(SOCKET) as socket:
        socket.send_json(START)
        socket.receive_json()
        job = server.claim()
        server.queue.progress(job, 8)
        event = {"event_id": "boat", "event": {"prompt": "a blue boat"}}
        socket.send_json({"type": "session.interaction", "interaction": event})
        queued = socket.receive_json()
        assert queued == {"type": "session.interaction.queued", "request_id": job.id, "event_id": "boat"}
        told = server.queue.get(job.id).prompts
        assert (told.starts, told.texts) == ((0, 8), ("a red car", "a blue boat"))
        for interaction, word in [
            (event, "was there before"),
            ({}, "with a prompt"),
            ({"event": {"prompt": " "}}, "with a prompt"),
            ({"event": {"prompt": "x", "multi_modal_data": {}}}, "multi_modal_data"),
            ({"event": {"prompt": "x"}, "transition_chunks": 3}, "transition_chunks"),
            ({"event_id": 7, "event": {"prompt": "x"}}, "event_id"),
        ]:
            socket.send_json({"type": "session.interaction", "interaction": interaction})
            refused = socket.receive_json()
            assert refused["type"] == "error" and word in refused["message"]
        socket.send_json({"type": "session.stop"})
        done = socket.receive_json()
        assert done["type"] == "session.done" and done["stopped"]
    assert server.queue.get(job.id).status == "cancelled"


def test_a_video_that_is_deleted_ends_the_session(server: Server) -> None:
    with server.client.websocket_connect(SOCKET) as socket:
        socket.send_json(START)
        begun = socket.receive_json()
        server.queue.delete(begun["request_id"])
        assert socket.receive_json()["code"] == "video_not_found"


def test_who_goes_leaves_the_video_to_be_made(server: Server) -> None:
    with server.client.websocket_connect(SOCKET) as socket:
        socket.send_json(START)
        socket.receive_json()
    job = server.claim()
    server.make(job)
    assert server.client.get(f"/v1/videos/{job.id}/content").status_code == 200


@pytest.mark.parametrize(
    "message",
    [
        "x",
        "[]",
        "{}",
        json.dumps({"type": "session.ping"}),
        json.dumps(START | {"format": "webm"}),
        json.dumps(START | {"model": "/etc"}),
        json.dumps(START | {"width": None}),
        json.dumps(START | {"extra_params": 3}),
        json.dumps(START | {"prompt": "x" * (5 << 20)}),
        json.dumps(START | {"seed": float("nan")}),
        json.dumps(START | {"\ud800": 1}),
        json.dumps({"type": "\ud800"}),
        json.dumps(START | {"sampling_params": {"prompt": [1]}, "prompt": None}),
        "[" * 100_000,
        b"bytes",
    ],
)
def test_what_is_no_start_ends_the_session(server: Server, message: str | bytes) -> None:
    with server.client.websocket_connect(SOCKET) as socket:
        if isinstance(message, bytes):
            socket.send_bytes(message)
        else:
            socket.send_text(message)
        assert socket.receive_json()["type"] == "error"
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()
    assert server.queue.list() == []


def test_what_nobody_understands_on_the_way_is_told(server: Server) -> None:
    with server.client.websocket_connect(SOCKET) as socket:
        socket.send_json(START)
        socket.receive_json()
        for message in ("x", "{}", '{"type": "session.run"}', '{"type": "x", "y": "' + "z" * (1 << 18) + '"}'):
            socket.send_text(message)
            assert socket.receive_json()["type"] == "error"
        socket.send_bytes(b"x")
        assert socket.receive_json()["type"] == "error"


def test_a_start_is_an_ordinary_request() -> None:
    message = START | {"sampling_params": {"seed": 3, "num_frames": 9}}
    content = request_of(message)
    assert content == {
        "model": "toy",
        "prompt": "a red car",
        "num_frames": 40,
        "seed": 3,
        "sampler": "chunked",
        "size": "16x16",
    }
    assert TOY.keys() >= content.keys() - {"seed"}
