"""What a stranger may send, and what becomes of it: a refusal in the interface's own words, and nothing else."""

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import anyio
import pytest
from PIL import Image
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from longtake.errors import InputError
from longtake.serve.settings import Access

from .conftest import ADDRESS, SOCKET, TOY, Server
from .test_api import names

TOKEN = "a token of this test, and of nothing else"


def problem(answer: object) -> tuple[int, str, str | None]:
    """Status, code and field of a refusal, whose shape is that of OpenAI's."""
    content = answer.json()  # pyright: ignore
    assert content.keys() == {"error"} and content["error"].keys() == {"message", "type", "param", "code"}
    assert content["error"]["message"] and "\n" not in content["error"]["message"]
    return answer.status_code, content["error"]["code"], content["error"]["param"]  # pyright: ignore


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, None),
        ({"prompt": "\ud800"}, None),
        ({"prompt": 3}, "prompt"),
        ({"prompt": "x" * 20_001}, "prompt"),
        ({"prompts": "[0s: a] [0s: b]"}, None),
        ({"prompts": 7}, "prompts"),
        ({"prompts": []}, "prompts"),
        ({"prompts": {}}, "prompts"),
        ({"prompts": [{"start": "0", "text": "a"}]}, "prompts"),
        ({"num_frames": 0}, "num_frames"),
        ({"num_frames": "many"}, "num_frames"),
        ({"num_frames": True}, "num_frames"),
        ({"seed": False}, "seed"),
        ({"fps": True}, "fps"),
        ({"num_frames": 10**30}, "num_frames"),
        ({"seconds": 4}, "seconds"),
        ({"num_frames": None, "seconds": "nan"}, "seconds"),
        ({"num_frames": None, "seconds": 1e300}, "seconds"),
        ({"size": "16"}, "size"),
        ({"size": "../x"}, "size"),
        ({"size": "15x16"}, "size"),
        ({"size": "99999x99999"}, None),
        ({"fps": "1/0"}, "fps"),
        ({"fps": -1}, "fps"),
        ({"fps": "1e999"}, "fps"),
        ({"seed": -1}, "seed"),
        ({"seed": 1 << 64}, "seed"),
        ({"guidance_scale": 1e9}, "guidance_scale"),
        ({"crf": 99}, None),
        ({"segment": 0}, None),
        ({"model": "sora-2"}, None),
        ({"model": "/etc"}, None),
        ({"model": "../../etc/passwd"}, None),
        ({"sampler": "__class__"}, None),
        ({"sampler": "nuwa-xl", "sampler.keyframes": "/etc"}, None),
        ({"sampler": "nuwa-xl", "sampler.before": ["/etc/passwd"]}, None),
        ({"sampler.overlap": "/etc/passwd"}, None),
        ({"sampler.": 1}, None),
        ({"sampler.overlap": float("nan")}, None),
        ({"\ud800\x1b": 1}, None),
        ({"init": "/etc/passwd"}, None),
        ({"output": "/tmp/x.mp4"}, None),
        ({"input_reference": "/etc/passwd"}, None),
        ({"input_reference": {"image_url": "http://127.0.0.1:1/x.png"}}, None),
        ({"input_reference": {"image_url": "file:///etc/passwd"}}, None),
        ({"input_reference": "data:image/png;base64,AAAA"}, None),
        ({"input_reference": "data:image/png;base64,?"}, None),
    ],
)
def test_what_cannot_be_made_is_refused(server: Server, change: dict[str, object], param: str | None) -> None:
    before = names(server.queue.folder)
    content = {name: value for name, value in (TOY | change).items() if value is not None}
    answer = server.client.post("/v1/videos", content=json.dumps(content))
    status, _, named = problem(answer)
    assert status == 400 and (param is None or named == param), answer.text
    assert names(server.queue.folder) == before and server.queue.list() == []


def test_a_prompt_that_names_a_file_is_a_prompt(server: Server, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("[0s: the secret]")
    for field in ("prompt", "prompts"):
        content = {name: value for name, value in TOY.items() if name != "prompt"} | {field: str(secret)}
        answer = server.client.post("/v1/videos", json=content)
        assert answer.json()["prompt"] == str(secret) and "the secret" not in answer.text


@pytest.mark.parametrize("body", ["", "[]", "{", "null", "[" * 100_000, '{"prompt": NaN}', "\x00"])
def test_what_is_no_request_is_refused(server: Server, body: str) -> None:
    assert problem(server.client.post("/v1/videos", content=body))[0] == 400


def test_forms_that_are_none_and_types_that_nobody_reads(server: Server) -> None:
    post = server.client.post
    form = {"content-type": "multipart/form-data; boundary=x"}
    assert problem(post("/v1/videos", content=b"--y\r\nnonsense", headers=form))[0] == 400
    assert problem(post("/v1/videos", content=b"x", headers={"content-type": "multipart/form-data"}))[0] == 400
    assert problem(post("/v1/videos", content=b"x", headers={"content-type": "text/xml"}))[0] == 415
    assert problem(post("/v1/videos", files={"prompt": ("a.txt", b"a red car")}))[0] == 400
    many = {f"field{number}": (None, "x") for number in range(300)}
    assert problem(post("/v1/videos", files=many))[0] == 400


def _png_header(width: int, height: int) -> bytes:
    """A picture that says to be so large, and holds nothing."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _gif() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "GIF")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a picture",
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"%!PS\n(/etc/passwd) run",
        _gif(),
        _png_header(60_000, 60_000),
        _png_header(8, 8),
        _png_header(8000, 8190),
    ],
)
def test_uploads_that_are_no_pictures_leave_nothing(server: Server, data: bytes) -> None:
    before = names(server.queue.folder)
    form = {name: (None, str(value)) for name, value in TOY.items()}
    answer = server.client.post("/v1/videos", files=form | {"input_reference": ("x.png", data, "image/png")})
    assert problem(answer)[0] == 400 and "input_reference" in answer.json()["error"]["message"]
    assert names(server.queue.folder) == before


def test_a_picture_whose_video_is_refused_does_not_stay(server: Server) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "PNG")
    form = {name: (None, str(value)) for name, value in (TOY | {"sampler": "video-infinity"}).items()}
    answer = server.client.post("/v1/videos", files=form | {"input_reference": ("x.png", buffer.getvalue())})
    assert problem(answer)[0] == 400 and list(server.queue.uploads.iterdir()) == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/videos/..",
        "/v1/videos/%2e%2e%2fqueue.sqlite",
        "/v1/videos/video_..%2f..%2fetc%2fpasswd/content",
        "/v1/videos/queue.sqlite/content",
        "/v1/videos/video_' OR 1=1 --/content",
        "/v1/videos/video_%00/report",
        "/v1/videos/video_0/prompts.vtt",
        "/v1/videos/%F0%9F%8E%AC/events",
        "/page/../api.py",
        "/page/%2e%2e/api.py",
        "/page/..%2f..%2fapi.py",
        "/page//etc/passwd",
        "/queue.sqlite",
        "/uploads/",
    ],
)
def test_paths_lead_nowhere_else(server: Server, path: str) -> None:
    assert problem(server.client.get(path))[0] == 404


def test_a_link_in_the_place_of_a_video_is_not_followed_from_outside(server: Server, tmp_path: Path) -> None:
    # Names of files are the ids of jobs, and there is no job of that name.
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (server.queue.folder / f"video_{'0' * 24}.mp4").symlink_to(secret)
    assert problem(server.client.get(f"/v1/videos/video_{'0' * 24}/content"))[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil", "", "[::1", "0.0.0.0"])
def test_a_name_that_was_made_to_lead_here_is_refused(server: Server, host: str) -> None:
    assert problem(server.client.get("/v1/videos", headers={"host": host}))[:2] == (403, "host_not_allowed")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:8400"])
def test_names_of_this_machine_are_let_in(server: Server, host: str) -> None:
    assert server.client.get("/v1/videos", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
    ],
)
def test_pages_of_other_sites_have_no_access(server: Server, headers: dict[str, str]) -> None:
    form = {name: (None, str(value)) for name, value in TOY.items()}
    answer = server.client.post("/v1/videos", files=form, headers=headers)
    assert problem(answer)[:2] == (403, "cross_origin") and server.queue.list() == []
    assert "access-control-allow-origin" not in answer.headers
    with pytest.raises(WebSocketDisconnect), server.client.websocket_connect(SOCKET, headers=headers):
        pass


def test_the_page_itself_has_access(server: Server) -> None:
    headers = {"origin": ADDRESS, "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
    assert server.client.post("/v1/videos", json=TOY, headers=headers).status_code == 200


def test_others_need_a_token(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="--token"):
        Access(host="0.0.0.0")
    client = Server(tmp_path, Access(host="0.0.0.0", token=TOKEN)).client
    for authorization in (None, TOKEN, f"Basic {TOKEN}", "Bearer ", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", "\xe9"):
        headers = {} if authorization is None else {"authorization": authorization.encode("latin-1")}
        for path in ("/v1/videos", "/metrics", "/openapi.json"):
            answer = client.get(path, headers=headers)
            assert problem(answer)[:2] == (401, "invalid_token") and answer.headers["www-authenticate"] == "Bearer"
        with pytest.raises(WebSocketDisconnect):
            with client.websocket_connect(SOCKET, headers=headers):
                pass
    known = {"authorization": f"Bearer {TOKEN}"}
    assert client.get("/v1/videos", headers=known | {"host": "gpu.example"}).status_code == 200
    assert [client.get(path).status_code for path in ("/health", "/", "/page/main.js")] == [200, 200, 200]
    assert client.get("/v1/videos", params={"token": TOKEN}).status_code == 401
    said = capfd.readouterr()
    assert TOKEN not in said.out + said.err


def test_a_request_may_be_so_large(tmp_path: Path) -> None:
    client = Server(tmp_path, Access(max_upload=1000)).client
    assert problem(client.post("/v1/videos", content=b"x" * 1001))[:2] == (413, "request_too_large")
    parts = (b"x" * 100 for _ in range(20))
    assert problem(client.post("/v1/videos", content=parts))[:2] == (413, "request_too_large")
    form = {"content-type": "multipart/form-data; boundary=x"}
    start = b'--x\r\ncontent-disposition: form-data; name="input_reference"; filename="a"\r\n\r\n'
    parts = iter([start, *[b"x" * 100] * 20])
    assert problem(client.post("/v1/videos", content=parts, headers=form))[:2] == (413, "request_too_large")


def test_a_fault_is_told_without_details_and_without_what_moves_a_terminal(
    server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(id: str) -> None:
        raise RuntimeError(f"\x1b[2J{id}\r\u202e")

    monkeypatch.setattr(server.queue, "get", fail)
    answer = server.client.get("/v1/videos/video_0")
    assert problem(answer)[:2] == (500, "internal_error") and "RuntimeError" not in answer.text
    said = capfd.readouterr().err
    assert "RuntimeError" in said and "\\x1b[2J" in said and not {"\x1b", "\r", "\u202e"} & set(said)


def test_who_goes_in_the_middle_of_a_request_is_no_fault(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    scope = {"type": "http", "method": "POST", "path": "/v1/videos", "query_string": b"", "http_version": "1.1"}
    scope |= {"headers": [(b"host", b"127.0.0.1"), (b"content-length", b"100")], "scheme": "http", "root_path": ""}
    said = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(said)

    async def send(message: Any) -> None:
        sent.append(message)

    anyio.run(server.app, scope, receive, send)
    assert capfd.readouterr().err == "" and server.queue.list() == []


def test_answers_say_what_browsers_may_do_with_them(server: Server) -> None:
    headers = server.client.get("/v1/videos").headers
    assert (
        headers["x-content-type-options"] == "nosniff"
        and "frame-ancestors 'none'" in headers["content-security-policy"]
    )
    assert [server.client.get(path).headers["cache-control"] for path in ("/", "/page/main.js")] == ["no-cache"] * 2
    assert server.client.options("/v1/videos", headers={"access-control-request-method": "POST"}).status_code == 405


def test_the_client_of_the_page_is_no_other_host(server: Server) -> None:
    other = TestClient(server.app, base_url="http://gpu.example")
    assert problem(other.get("/"))[0] == 403
