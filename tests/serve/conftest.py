"""A queue whose worker is the test, with the toy model."""

import contextlib
import functools
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from longtake._generate import generate
from longtake.apps.serve import planned
from longtake.models.toy import Toy
from longtake.request import PromptTimeline, Request
from longtake.samplers.chunked.plan import Chunked
from longtake.serve.api import create_app
from longtake.serve.job import Job
from longtake.serve.queue import Queue
from longtake.serve.rows import DATABASE
from longtake.serve.settings import Access, Quota
from longtake.video.files import state_folder
from longtake.video.output import Output

Film = Callable[..., Path]
_FOLDER = tempfile.TemporaryDirectory()
ADDRESS = "http://127.0.0.1:8400"
SOCKET = "ws://127.0.0.1:8400/v1/realtime/video"
TOY = {
    "prompt": "a red car",
    "model": "toy",
    "sampler": "chunked",
    "num_frames": 40,
    "size": "16x16",
    "num_inference_steps": 2,
}
"""A request that the toy can fulfil."""


def write_film(path: Path, frames: int = 40, stop: int | None = None, segment: int = 8) -> Path:
    """Put a video of 16x16 pixels in pieces of so many frames at a path, as its run leaves it, whole or killed once it
    has `stop` frames; it is made once."""
    source = _made(frames, stop, segment)
    for ending in (".mp4", ".vtt"):
        if source.with_suffix(ending).exists():
            shutil.copy(source.with_suffix(ending), path.with_suffix(ending))
    report = source.with_suffix(".json").read_text().replace(source.name, path.name)
    path.with_suffix(".json").write_text(report)
    shutil.rmtree(state_folder(path), ignore_errors=True)
    shutil.copytree(state_folder(source), state_folder(path))
    return path


@functools.cache
def _made(frames: int, stop: int | None, segment: int) -> Path:
    def progress(made: int, warnings: tuple[str, ...], doing: str) -> None:
        if stop is not None and made >= stop:
            raise KeyboardInterrupt

    path = Path(_FOLDER.name) / f"{frames}-{stop}-{segment}.mp4"
    request = Request(prompts=PromptTimeline.constant("a red car"), frames=frames, steps=2)
    with contextlib.suppress(KeyboardInterrupt):
        generate(Toy(), request, Chunked(), Output(path=path, scale=2, segment=segment), progress=progress)
    return path


@pytest.fixture
def film(tmp_path: Path) -> Film:
    """`write_film` at a path of its own."""
    return lambda **how: write_film(tmp_path / "film.mp4", **how)


class Server:
    """A server of a folder, and the hands of its worker."""

    def __init__(self, folder: Path, access: Access | None = None) -> None:
        self.queue = Queue(folder, Quota(max_frames=1000, max_queue=3, keep_free=0), careful=False)
        self.app = create_app(self.queue, access or Access(), planned)
        self.client = TestClient(self.app, base_url=ADDRESS)

    def clear(self) -> None:
        """Forget all videos."""
        with sqlite3.connect(self.queue.folder / DATABASE) as base:
            base.execute("DELETE FROM jobs")
        for path in [*self.queue.folder.glob("video_*"), *self.queue.uploads.iterdir()]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def ask(self, **more: object) -> str:
        """Ask for a video; return its id."""
        answer = self.client.post("/v1/videos", json=TOY | more)
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    def claim(self) -> Job:
        """Take the first job."""
        job = self.queue.claim("test")
        assert job is not None
        return job

    def make(self, job: Job, stop: int | None = None) -> None:
        """Make the video of a job, or so much of it."""
        write_film(self.queue.path(job), job.frames_total, stop)
        if stop is None:
            self.queue.finish(job, job.frames_total)
        else:
            self.queue.progress(job, stop, rate=16.0)

    def made(self) -> str:
        """Return the id of a video that is complete."""
        id = self.ask()
        self.make(self.claim())
        return id


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One application and one event loop for all tests of a module."""
    server = Server(tmp_path_factory.mktemp("served"))
    with server.client:
        yield server


@pytest.fixture
def server(one_server: Server) -> Server:
    """A server of an empty folder, for this machine alone."""
    one_server.clear()
    return one_server
