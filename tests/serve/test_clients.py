"""A server as `longtake serve` starts it, and clients that others have written."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from longtake.report import report_path
from longtake.serve.stream import read_settled
from longtake.video.read import count_frames

# The clients are imported by the tests that use them: that takes seconds, for which quick tests have no use.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

PROMPT = "a rocket flies up through the night sky"
OTHER = "a whale dives down below the waves"
FAST: dict[str, Any] = {"sampler": "chunked", "num_inference_steps": 2}


class Process:
    """A server in a process of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "longtake", "serve", str(folder), "--device", "cpu", "--keep-free", "0"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        environment.pop("LONGTAKE_TOKEN", None)
        self._process = subprocess.Popen(
            [*command, *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._process.stdout
        self.said = self._process.stdout.readline()
        found = re.search(r"http://\S+:(\d+)", self.said)
        assert found, self.said
        self.port = int(found[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def end(self, number: signal.Signals = signal.SIGTERM) -> str:
        """End it, and return all that it has said."""
        self._process.send_signal(number)
        rest, _ = self._process.communicate(timeout=60)
        return self.said + rest


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server for all of these tests."""
    process = Process(tmp_path_factory.mktemp("served"), "--port", "0", "--max-frames", "200", "--max-queue", "20")
    yield process
    assert "Traceback" not in process.end()


def client(process: Process, token: str = "none") -> Any:
    """OpenAI's client of a server."""
    return pytest.importorskip("openai").OpenAI(base_url=f"{process.url}/v1", api_key=token, max_retries=0)


def finished(videos: Any, video: Any) -> Any:
    """A video once it is over."""
    until = time.monotonic() + 300
    while video.status in ("queued", "in_progress"):
        assert time.monotonic() < until, video
        time.sleep(0.2)
        video = videos.retrieve(video.id)
    return video


def test_the_official_client_creates_polls_and_downloads(server: Process, tmp_path: Path) -> None:
    openai, videos = pytest.importorskip("openai"), client(server).videos
    video = videos.create(model="sprites", prompt=PROMPT, seconds="3", size="128x128", extra_body={**FAST, "seed": 7})
    assert video.status == "queued" and video.seconds == "3" and video.size == "128x128"
    video = finished(videos, video)
    assert video.status == "completed" and video.progress == 100 and video.error is None
    videos.download_content(video.id).write_to_file(tmp_path / "rocket.mp4")
    assert count_frames(tmp_path / "rocket.mp4") == 24
    assert videos.download_content(video.id, variant="thumbnail").read()[8:12] == b"WEBP"
    assert videos.download_content(video.id, variant="spritesheet").read()[:2] == b"\xff\xd8"
    # The client itself refuses {"id": ...}; a text without a name of a file is what it lets through.
    longer = videos.extend(video=(None, video.id.encode()), prompt=OTHER, seconds="2")
    assert longer.seconds == "5" and longer.extended_from_video_id == video.id
    other = videos.remix(video.id, prompt=OTHER, extra_body={"from_seconds": 1})
    assert other.remixed_from_video_id == video.id and other.from_frame == 8
    story = videos.create(
        model="sprites", prompt="", extra_body={**FAST, "prompts": json.dumps([PROMPT, OTHER]), "num_frames": 16}
    )
    assert [prompt["start"] for prompt in story.prompts] == [0, 8]
    for one, frames in ((longer, 40), (other, 24), (story, 16)):
        assert finished(videos, one).status == "completed"
        assert videos.download_content(one.id).read() == (server.folder / f"{one.id}.mp4").read_bytes()
        assert count_frames(server.folder / f"{one.id}.mp4") == frames
    listed = [one.id for one in videos.list(limit=2)]
    assert listed[:4] == [story.id, other.id, longer.id, video.id]
    assert videos.delete(story.id).deleted
    with pytest.raises(openai.NotFoundError):
        videos.retrieve(story.id)
    with pytest.raises(openai.BadRequestError, match="there is no model 'sora-2'"):
        videos.create(model="sora-2", prompt=PROMPT)


def test_a_picture_goes_with_the_official_client(server: Process, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (64, 64), "navy").save(tmp_path / "start.png")
    videos = client(server).videos
    video = videos.create(
        model="sprites", prompt=PROMPT, input_reference=tmp_path / "start.png", extra_body={**FAST, "num_frames": 16}
    )
    assert finished(videos, video).status == "completed"


def test_content_ends_with_the_video_and_news_say_so(server: Process) -> None:
    videos = client(server).videos
    video = videos.create(model="sprites", prompt=PROMPT, extra_body={**FAST, "num_frames": 64})
    while not videos.retrieve(video.id).frames_ready:
        time.sleep(0.05)
    with urllib.request.urlopen(f"{server.url}/v1/videos/{video.id}/content", timeout=300) as answer:
        content = answer.read()
    assert finished(videos, video).status == "completed"
    path = server.folder / f"{video.id}.mp4"
    assert content == read_settled(path, 0, path.stat().st_size, finished=False)
    with urllib.request.urlopen(f"{server.url}/v1/videos/{video.id}/events", timeout=60) as answer:
        events = answer.read().decode()
    assert events.startswith("event: progress\n") and "event: done\n" in events
    rows = [json.loads(line[6:])["data"] for line in events.splitlines() if '"steps"' in line]
    assert [row["frame"] for part in rows for row in part] == list(range(0, 64, 8))


def test_a_socket_steers(server: Process, tmp_path: Path) -> None:
    websockets = pytest.importorskip("websockets.sync.client")
    start = {"type": "session.start", "model": "sprites", "prompt": PROMPT, "num_frames": 128, "seed": 3, **FAST}
    pieces: list[dict[str, Any]] = []
    film = tmp_path / "film.mp4"
    with (
        websockets.connect(f"ws://127.0.0.1:{server.port}/v1/realtime/video", max_size=None) as talk,
        film.open("wb") as file,
    ):
        talk.send(json.dumps(start))
        begun = json.loads(talk.recv(60))
        assert begun["type"] == "video.start"
        talk.send(json.dumps({"type": "session.ping"}))
        said = []
        for message in talk:
            if isinstance(message, bytes):
                file.write(message)
                if len(pieces) == 2:
                    event = {"event_id": "whale", "event": {"prompt": OTHER}}
                    talk.send(json.dumps({"type": "session.interaction", "interaction": event}))
                continue
            content = json.loads(message)
            if content["type"] == "video.chunk_metadata":
                pieces.append(content)
            else:
                said.append(content)
    assert [one["type"] for one in said] == ["session.pong", "session.interaction.queued", "session.done"]
    assert said[-1]["chunks"] == len(pieces) == 16 and not said[-1]["stopped"]
    assert count_frames(film) == 128
    report = json.loads(report_path(server.folder / f"{begun['request_id']}.mp4").read_bytes())
    (first, turn), texts = report["request"]["prompts"].keys(), list(report["request"]["prompts"].values())
    assert first == "0" and texts == [PROMPT, OTHER] and 0 < int(turn) < 128
    # The piece with the first frame of the new prompt names it.
    told = [piece["first_frame"] for piece in pieces if piece["started_event_ids"] == ["whale"]]
    assert len(told) == 1 and told[0] <= int(turn) < told[0] + 8
    assert pieces[-1]["active_event_ids"] == ["whale"]


def test_a_server_that_is_killed_goes_on_and_so_does_a_download(tmp_path: Path) -> None:
    server = Process(tmp_path / "out", "--port", "0")
    video = client(server).videos.create(model="sprites", prompt=PROMPT, extra_body={**FAST, "num_frames": 96})
    while not (found := client(server).videos.retrieve(video.id)).frames_ready:
        time.sleep(0.05)
    address = f"/v1/videos/{video.id}/content"
    part = urllib.request.Request(server.url + address, headers={"range": "bytes=0-"})
    with urllib.request.urlopen(part) as answer:
        head = answer.read()
    server.end(signal.SIGKILL)
    server = Process(tmp_path / "out", "--port", "0")
    videos = client(server).videos
    finished(videos, found)
    rest = urllib.request.Request(server.url + address, headers={"range": f"bytes={len(head)}-"})
    with urllib.request.urlopen(rest) as answer:
        tail = answer.read()
    path = tmp_path / "out" / f"{video.id}.mp4"
    assert head + tail == read_settled(path, 0, path.stat().st_size, finished=False)
    server.end()


def test_a_server_for_others_asks_for_its_token_and_never_prints_it(tmp_path: Path) -> None:
    openai, token = pytest.importorskip("openai"), "a token that nobody may read"
    server = Process(tmp_path / "out", "--port", "0", "--host", "0.0.0.0", "--token", token)
    with pytest.raises(openai.AuthenticationError):
        client(server).videos.list()
    assert list(client(server, token).videos.list()) == []
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{server.url}/v1/videos?token={token.replace(' ', '%20')}")
    assert token not in server.end()


HOST = b"Host: 127.0.0.1\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
        (b"GET /v1/videos HTTP/1.1\r\nConnection: close\r\n\r\n", b"400"),
        (b"GET /v1/videos HTTP/1.1\r\nHost: evil\r\n" + HOST + b"\r\n", b"400"),
        (b"GET http://evil/v1/videos HTTP/1.1\r\nHost: evil\r\nConnection: close\r\n\r\n", b"403"),
        (b"GET /page/../../../../../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", b"404"),
        (b"GET /page/%2e%2e/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", b"404"),
        (b"GET /v1/videos/%00%0d%0aX:1 HTTP/1.1\r\n" + HOST + b"\r\n", b"404"),
        (b"TRACE /v1/videos HTTP/1.1\r\n" + HOST + b"\r\n", b"405"),
        (b"POST /v1/videos HTTP/1.1\r\nContent-Length: 99999999999999\r\n" + HOST + b"\r\n{", b"413"),
        (b"POST /v1/videos HTTP/1.1\r\nContent-Length: -1\r\n" + HOST + b"\r\n{", b"400"),
        (b"GET /v1/videos HTTP/1.1\r\nAuthorization: Bearer \xff\xfe\r\n" + HOST + b"\r\n", b"200"),
        (
            b"GET /v1/videos/video_0/content HTTP/1.1\r\nRange: bytes=" + b"0-1," * 5000 + b"\r\n" + HOST + b"\r\n",
            b"404",
        ),
    ],
)
def test_bytes_that_no_client_sends(server: Process, sent: bytes, answers: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(sent)
        assert connection.recv(4096).split(b"\r\n")[0].startswith(b"HTTP/1.1 " + answers)


@pytest.mark.parametrize(("mode", "routes"), [("positive", 15), ("negative", 9)])
def test_nothing_that_fits_the_description_or_does_not_breaks_the_server(
    server: Process, mode: str, routes: int
) -> None:
    schemathesis, hypothesis = pytest.importorskip("schemathesis"), pytest.importorskip("hypothesis")
    quiet = hypothesis.settings(
        deadline=None, database=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
    )
    described = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    videos = client(server).videos
    toy = {"sampler": "chunked", "num_inference_steps": 2, "num_frames": 16}
    video = finished(videos, videos.create(model="toy", prompt="a red car", size="16x16", extra_body=toy))
    asked: dict[str, set[int]] = {}

    def ask(case: Any) -> None:
        answer = case.call(timeout=120)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400 and answer.content and case.method != "HEAD":
            assert json.loads(answer.text).keys() == {"error"}, answer.text
        asked.setdefault(f"{case.method} {case.path}", set()).add(answer.status_code)

    for operation in (found.ok() for found in described.get_all_operations()):
        # A video that is not there, and one that is.
        places = [{}, {"path_parameters": {"id": video.id}}] if "{id}" in operation.path else [{}]
        for place in places if operation.method.upper() != "DELETE" else places[:1]:
            cases = operation.as_strategy(schemathesis.GenerationMode(mode), **place)
            tried = hypothesis.given(case=cases)(ask)
            with contextlib.suppress(hypothesis.errors.Unsatisfiable):
                hypothesis.settings(quiet, max_examples=12)(tried)()
    assert len(asked) >= routes and any(200 in found for found in asked.values()), asked
