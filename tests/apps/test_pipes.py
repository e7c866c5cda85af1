"""A pipe in place of a file is refused in one line wherever a file from outside is read: nothing waits for a writer."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from longtake.reading import NO_FILE, check_file, read_file

SECONDS = 60
ASKED = ("--model", "toy", "--sampler", "chunked", "--frames", "24")
WHAT = "pipe or a device"


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    """Fail, rather than hang, where somebody waits for a writer."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError("it waits for the pipe")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def here(longtake: Callable[..., Any]) -> Callable[..., Any]:
    """Pipes under the names of all kinds of files, and folders with one among their files."""
    for name in ("pipe", "pipe.mp4", "pipe.png", "pipe.json", "pipe.jsonl", "pipe.pth", "pipe.safetensors"):
        os.mkfifo(name)
    for folder, side in (("pictures", 8), ("videos/frames", 8)):
        Path(folder).mkdir(parents=True)
        for number in (1, 3):
            Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(f"{folder}/{number}.png")
        os.mkfifo(f"{folder}/2.png")
    os.mkfifo("videos/film.mp4")
    Path("film").mkdir()
    os.mkfifo("film/000000.png")
    Path("lines.txt").write_text("a")
    Path("episodes/one").mkdir(parents=True)
    os.mkfifo("episodes/one/captions.jsonl")
    os.mkfifo("episodes/one/film.mp4")
    return longtake


@pytest.mark.parametrize(
    "words",
    [
        ("generate", "a", *ASKED, "--init", "pipe.mp4"),
        ("generate", "a", *ASKED, "--init", "pipe.png"),
        ("generate", "a", *ASKED, "--init", "pictures"),
        ("generate", "a", *ASKED, "--audio", "pipe"),
        ("generate", "a", "--model", "toy", "--sampler.keyframes", "pictures"),
        ("generate", "--prompts", "pipe", *ASKED),
        ("generate", "--from", "pipe.json"),
        ("plan", "--from", "pipe.json"),
        ("batch", "pipe", "--model", "toy"),
        ("batch", "lines.txt", "--model", "toy", "-o", "pipe.mp4"),
        ("compare", "--samplers", "chunked", "--model", "toy", "--prompts", "pipe", "--frames", "24", "-o", "compared"),
        ("report", "pipe.mp4", "-o", "page.html"),
        ("evaluate", "drift", "pipe.mp4"),
        ("evaluate", "drift", "film"),
        ("evaluate", "fvd", "--real", "videos", "--fake", "videos", "--frames", "16"),
        ("evaluate", "fvd", "--real", "pipe.jsonl", "--fake", "videos", "--frames", "16"),
        ("evaluate", "fvd", "--real", "pipe.mp4", "--fake", "videos", "--frames", "16"),
        ("train", "nuwa-xl", "episodes"),
        ("train", "pvdm-autoencoder", "videos", "--perceptual", "none"),
    ],
    ids=" ".join,
)
def test_a_pipe_is_refused_before_it_is_waited_for(here: Callable[..., Any], words: tuple[str, ...]) -> None:
    ran = here(*words)
    assert (ran.status, ran.err.count("longtake: ")) == (2, 1), ran.err
    assert WHAT in ran.err, ran.err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("generate", "pipe", *ASKED), "is a file here"),
        (("generate", "a", *ASKED, "-o", "pipe.mp4"), WHAT),
        (("generate", "a", *ASKED, "-o", "pipe.mp4", "--overwrite"), WHAT),
        (("generate", "a", "--model", "pipe.safetensors"), "neither a file nor a folder"),
        (("generate", "a", "--model", "sprites", "--lora", "pipe.safetensors"), "is no .safetensors file"),
        (("evaluate", "similarity", "pictures", "--network", "pipe"), "pipe is a pipe or a device"),
        (
            ("evaluate", "fvd", "--real", ".", "--fake", ".", "--network", "pipe"),
            "pipe is a pipe or a device, not a file",
        ),
        (("train", "pvdm-autoencoder", "videos", "--perceptual", "vgg", "--vgg", "pipe.pth"), "pipe.pth is a pipe or"),
        (("evaluate", "vbench", "pictures", "--raft", "pipe"), "pipe is a pipe or a device, not a file; --raft takes"),
        (("convert", "pvdm", "pipe", "-o", "made"), "pipe"),
        (("generate", "a", *ASKED, "--init", "pipe"), "cannot read pipe as a video: it is a pipe or a device"),
        (("data", "shards", ".", "--licence", "Apache-2.0", "-o", "shards"), ""),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_a_pipe_is_no_file_where_one_is_asked_for(
    here: Callable[..., Any], words: tuple[str, ...], problem: str
) -> None:
    ran = here(*words)
    assert (ran.status, ran.err.count("longtake: ")) == (2, 1), ran.err
    assert problem in ran.err, ran.err


def _replaced(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("output", "place"), [("a", "a/000003.png"), ("a", "a.state/state.json"), ("a.mp4", "a.mp4.state/state.json")]
)
def test_a_pipe_among_the_files_of_a_run_is_named(longtake: Callable[..., Any], output: str, place: str) -> None:
    assert longtake("generate", "a", *ASKED, "-o", output).status == 0
    _replaced(Path(place))
    ran = longtake("generate", "a", *ASKED, "-o", output)
    assert ran.status == 2 and NO_FILE in ran.err, ran.err
    if place == "a/000003.png":
        assert longtake("redo", "a", "--from", "0").status == 0
        assert Path(place).is_file()


@pytest.mark.parametrize("output", ["a", "a.mp4"])
def test_a_pipe_in_place_of_a_report_is_replaced_by_one(longtake: Callable[..., Any], output: str) -> None:
    assert longtake("generate", "a", *ASKED, "-o", output).status == 0
    _replaced(Path("a.json"))
    assert longtake("extend", output, "--frames", "8").status == 2
    assert longtake("generate", "a", *ASKED, "-o", output).status == 0
    assert Path("a.json").is_file()


def test_a_socket_and_a_device_are_none_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as open_socket:
        open_socket.bind("socket")
        for name in ("socket", os.devnull):
            with pytest.raises(OSError, match=NO_FILE):
                check_file(name)
    Path("file").write_text("told")
    Path("link").symlink_to("file")
    assert read_file("link") == b"told"
    with pytest.raises(FileNotFoundError):
        check_file("nothing")
