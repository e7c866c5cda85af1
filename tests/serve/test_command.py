"""`longtake serve` before anything listens."""

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longtake.apps.serve import planned
from longtake.errors import InputError, OutputError
from longtake.request import PromptTimeline
from longtake.serve.job import VideoJob, order_of
from longtake.serve.queue import Queue
from longtake.serve.settings import Computing
from longtake.serve.supervisor import Supervisor

from ..apps.conftest import longtake as longtake

Tool = Callable[..., Any]


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "give a folder"),
        (["here", "--host", "0.0.0.0"], "give --token"),
        (["here", "--workers", "0"], "0 workers"),
        (["here", "--workers", "1000000"], "give 1 to 1024"),
        (["here", "--token", "a secret\n"], "no request could bring the token"),
        (["here", "--token", " "], "no request could bring the token"),
        (["here", "--max-queue", "0"], "--max-queue 0 takes nothing"),
        (["here", "--keep-free", "much"], "is no size"),
        (["here", "--model", "/nonexistent"], "'/nonexistent'"),
        (["here", "--model", "toys/sprites"], "two models would be called sprites"),
        (["here", "--lora", "none.safetensors"], "lora"),
        (["here", "--modell", "x"], "did you mean '--model'"),
    ],
)
def test_a_mistake_is_one_line(longtake: Tool, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str):
    monkeypatch.delenv("LONGTAKE_TOKEN", raising=False)
    ran = longtake("serve", *arguments)
    assert ran.status == 2 and words in ran.err and ran.err.count("\n") == 1
    assert not Path("here").exists()


def test_a_port_that_is_taken_is_one_line_and_leaves_no_folder(longtake: Tool):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = longtake("serve", "here", "--port", str(taken.getsockname()[1]))
    assert ran.status == 2 and "cannot listen at 127.0.0.1:" in ran.err and ran.err.count("\n") == 1
    assert not Path("here").exists()


def test_without_the_extra_it_says_what_to_install(longtake: Tool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert "pip install 'longtake[serve]'" in longtake("serve", "here").err


def test_a_plan_is_that_of_the_command(tmp_path: Path):
    asked = VideoJob(prompts=PromptTimeline.constant("a red car"), model="toy", frames=64)
    content = planned(order_of(asked, tmp_path / "a.mp4", tmp_path, Computing()))
    assert content["frames"] == 64 and content["forwards"] > 64 and content["sampler"]["name"] == "fifo"


def test_one_server_has_a_folder(tmp_path: Path):
    queue = Queue(tmp_path, computing=Computing(workers=1))
    first = Supervisor(queue)
    with pytest.raises(OutputError, match="another longtake .* give another folder"):
        Supervisor(queue)
    first._lock.close()


def test_workers_are_at_least_one():
    with pytest.raises(InputError, match="0 workers"):
        Computing(workers=0)
