"""What a terminal is shown: text from outside is text, whatever is in it and whatever the terminal can show."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from longtake.models import toy_spec

MAKE = ("--model", "toy", "--frames", "16", "-o", "x.mkv")
ESCAPES = "a cat \x1b[2Jsits\x07 on\u202e the\nbeach"
SHOWN = r"a cat \x1b[2Jsits\x07 on\u202e the beach"


@pytest.mark.parametrize("prompt", [r"a cat \[/] dog", "[/]", "[bold]a cat", "a [link=x]cat[/link]", "\\"])
def test_a_prompt_is_no_markup(longtake: Callable, monkeypatch: pytest.MonkeyPatch, prompt: str) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    ran = longtake("generate", prompt, *MAKE)
    assert ran.status == 0, ran.err
    assert prompt in json.loads(Path("x.json").read_text())["request"]["prompts"].values()


def test_control_characters_are_shown_escaped(longtake: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = longtake("plan", ESCAPES, *MAKE)
    assert SHOWN in planned.out and "\x1b" not in planned.out
    refused = longtake("plan", "--prompts", ESCAPES)
    assert "\x1b" not in refused.err and refused.err.count("\n") == 1
    mistaken = longtake("plan", "a", "--model", "\x1b[2J")
    assert r"\x1b[2J" in mistaken.err and "\x1b" not in mistaken.err
    monkeypatch.setattr("longtake.apps.generate.display.LINE_SECONDS", 0.0)
    made = longtake("generate", ESCAPES, *MAKE)
    assert SHOWN in made.err and "\x1b" not in made.err
    # In a file whose format is safe they stay what they are; in that of players they are shown.
    assert json.loads(Path("x.json").read_text())["request"]["prompts"] == {"0": ESCAPES.replace("\n", " ")}
    assert "\x1b" not in Path("x.vtt").read_text()
    assert b"\x1b[2J" not in Path("x.mkv").read_bytes()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_that_is_not_utf8_is_no_reason_to_fail(tmp_path: Path, encoding: str) -> None:
    for arguments in (("plan", "a \U0001f408 sits", "--model", "toy"), ("plan", "--help"), ("samplers",)):
        done = subprocess.run(
            [sys.executable, "-m", "longtake", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONIOENCODING": encoding},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-400:]
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("columns", ["0", "1", "4"])
def test_a_terminal_without_width_is_no_reason_to_fail(tmp_path: Path, columns: str) -> None:
    """To a few columns help was folded without end, and a table to none at all was a traceback."""
    for arguments in (("samplers", "--help"), ("models",)):
        command = [sys.executable, "-m", "longtake", *arguments]
        env = {**os.environ, "COLUMNS": columns}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, b""), done.stderr[-400:]


def test_a_run_whose_progress_nobody_reads_makes_its_video(tmp_path: Path) -> None:
    """As of `2>&1 | head -1`: it ended with status 0 and a part of its frames."""
    read, write = os.pipe()
    os.close(read)
    for heard, name in ((write, "pipe.mkv"), (os.open("/dev/full", os.O_WRONLY), "full.mkv")):
        command = [
            sys.executable,
            "-m",
            "longtake",
            "generate",
            "a cat",
            "--model",
            "toy",
            "--frames",
            "40",
            "-o",
            name,
        ]
        done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=heard, check=False)
        os.close(heard)
        assert done.returncode == 0
        assert json.loads((tmp_path / name).with_suffix(".json").read_text())["complete"]


def test_a_model_that_reads_no_text_asks_for_none(longtake: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_spec, "TOY", replace(toy_spec.TOY, vocabulary=frozenset()))
    planned = longtake("plan", *MAKE)
    assert planned.status == 0, planned.err
    assert "prompt" not in planned.err
    assert "the prompt changes nothing" in longtake("plan", "a cat", *MAKE).err


def test_a_pipe_is_refused_in_words(longtake: Callable) -> None:
    ran = longtake("generate", "a", "--model", "toy", "-o", "-")
    assert (ran.status, "standard output" in ran.err) == (2, True)
    assert list(Path().iterdir()) == []


def test_loading_is_said_before_it_happens(longtake: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr("longtake.apps.generate.command.load_model", fails)
    assert "loading  toy" in longtake("generate", "a", *MAKE).err


def test_a_rate_may_be_a_fraction(longtake: Callable) -> None:
    planned = longtake("plan", "a", *MAKE, "--fps", "30000/1001", "--json")
    assert json.loads(planned.out)["fps"] == 30000 / 1001
    for wrong in ("30/0", "fast", "1/2/3"):
        ran = longtake("plan", "a", *MAKE, "--fps", wrong)
        assert (ran.status, f"--fps {wrong!r} is no number" in ran.err) == (2, True)
