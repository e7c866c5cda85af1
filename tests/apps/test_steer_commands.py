"""Videos that are steered from the command line."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longtake.apps.generate.display import Display
from longtake.apps.steer import moment
from longtake.errors import InputError
from longtake.video.read import read_frames

Tool = Callable[..., Any]
MAKE = ("generate", "--model", "toy", "--sampler.partitions", "2", "--frames", "96", "--scale", "2", "-o", "a.mkv")
STORY = (*MAKE, "--prompts", "story.txt")


def prompts(report: str) -> dict[str, str]:
    return json.loads(Path(report).read_text())["request"]["prompts"]


def tell(text: str) -> None:
    Path("story.txt").write_text(text)


def frames_of(path: str) -> np.ndarray:
    return np.concatenate(list(read_frames(Path(path))))


def edited(monkeypatch: pytest.MonkeyPatch, at: int, text: str) -> None:
    """Let somebody edit the story once so many frames are made."""
    show = Display.show

    def showing(display: Display, frames: int, doing: str) -> None:
        show(display, frames, doing)
        if frames == at:
            tell(text)

    monkeypatch.setattr(Display, "show", showing)


def test_nothing_is_said_of_states_where_there_are_none(longtake: Tool) -> None:
    tree = ("--sampler", "nuwa-xl", "--sampler.depth", "2")
    assert longtake("generate", "a cat", "--model", "toy", *tree, "--frames", "20", "-o", "a.mkv").status == 0
    told = longtake("extend", "a.mkv", "--frames", "8", "--dry-run")
    assert "calls whose frames stay are not made again" in told.out and "kept" not in told.out, told


def test_the_extension_of_a_stopped_video_says_what_its_target_was(
    longtake: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.apps.generate.stopping import StoppedError

    def stopping(display: Display, frames: int, doing: str) -> None:
        if frames == 64:
            raise StoppedError(signal.SIGINT)

    with monkeypatch.context() as midway:
        midway.setattr(Display, "show", stopping)
        assert longtake(*MAKE, "a red car").status == 130
    told = longtake("extend", "a.mkv", "--frames", "32", "--dry-run").out
    assert "target   64 of its 96 frames are made; with 32 more it goes on to 128" in told
    assert "steer    from frame 64 on; the first 64 stay as they are stored" in told
    begun = longtake("extend", "a.mkv", "--frames", "32")
    assert begun.status == 0 and "device   cpu (as in the report), " in begun.err


def test_a_video_goes_on_and_is_made_otherwise(longtake: Tool, light: Tool) -> None:
    assert longtake(*MAKE, "a red car").status == 0
    said = longtake("extend", "a.mkv", "--frames", "32", "--dry-run", "--json")
    steering = json.loads(said.out)["steering"]
    assert steering["from"] == steering["states"][1]["next_frame"] == 64 and not steering["under_way"]
    whole = json.loads(said.out)
    assert steering["forwards_left"] == round((whole["frames"] - 64) * whole["forwards_per_frame"]) < whole["forwards"]
    assert steering["seconds_left"] == pytest.approx(whole["seconds"] * (whole["frames"] - 64) / whole["frames"])
    assert longtake("extend", "a.mkv", "--frames", "32").status == 0
    assert longtake(*MAKE[:6], "128", *MAKE[7:-1], "whole.mkv", "a red car").status == 0
    assert Path("a.mkv").read_bytes() == Path("whole.mkv").read_bytes()
    redo = ("redo", "a.mkv", "--from", "10s", "--prompts", "a boat | a house", "-o", "b.mkv")
    light([("extend", "a.mkv", "--frames", "9", "--dry-run"), (*redo, "--dry-run")], Path(), {"torch", "diffusers"})
    told = longtake(*redo, "--dry-run")
    assert "prompts  hold fully from about frame 96 on" in told.out and not Path("b.mkv").exists()
    assert "\nkept     " in told.out
    dissolves = "note     fifo dissolves from one scene into the other, and the old object may stay"
    assert dissolves in told.out and dissolves not in longtake(*redo[:4], "--seed", "8", "--dry-run").out
    late = longtake("extend", "a.mkv", "--frames", "1", "--prompts", "a boat", "-o", "late.mkv", "--dry-run")
    assert ", after the end: the video has 129\n" in late.out
    assert "the first 64 stay as they are stored" in told.out
    assert "seed 0, then 8\n" in longtake(*redo[:4], "--seed", "8", "--dry-run").out
    made = longtake(*redo)
    assert made.status == 0 and ", 64 of them now in " in made.err
    assert prompts("b.json") == {"0": "a red car", "80": "a boat", "104": "a house"}
    assert np.array_equal(frames_of("b.mkv")[:80], frames_of("a.mkv")[:80])
    again = longtake(*redo)
    assert again.status == 0 and "already complete" in again.err


@pytest.mark.parametrize(
    "steer", [("extend", "a.mkv", "--frames", "8"), ("redo", "a.mkv", "--from", "8", "--seed", "3")]
)
def test_other_weights_are_refused_before_they_are_loaded(
    longtake: Tool, monkeypatch: pytest.MonkeyPatch, steer: tuple[str, ...]
) -> None:
    embedded = ("--model", "sprites-fast", "--sampler", "autoregressive", "--frames", "24", "-o", "a.mkv")
    assert longtake("generate", "a red car", *embedded).status == 0
    before = Path("a.mkv").read_bytes()
    monkeypatch.setattr("longtake.models.hub.configs.Configs.digest", lambda configs: "0" * 64)
    monkeypatch.setattr("longtake.apps.generate.command.load_model", lambda *_, **__: pytest.fail("it was loaded"))
    ran = longtake(*steer)
    assert ran.status == 2 and "made with other weights of sprites-fast: " in ran.err and "device" not in ran.err
    for dry in ((*steer, "--dry-run"), ("generate", "--from", "a.json", "-o", "b.mkv", "--dry-run")):
        assert "\nrefused  the video was made with other weights of sprites-fast: " in longtake(*dry).out
    assert Path("a.mkv").read_bytes() == before


def test_a_video_of_other_origin_goes_on_from_its_last_frames(longtake: Tool) -> None:
    longtake(*MAKE, "a red car")
    Path("a.mkv").rename("film.mkv")
    on = ("extend", "film.mkv", "--frames", "8", "-o", "on.mkv")
    assert "say with which one" in longtake(*on).err
    ran = longtake(*on, "--model", "toy", "--sampler", "chunked", "--prompts", "a boat")
    assert ran.status == 0 and "not the video that a longer run" in ran.err
    assert np.array_equal(frames_of("on.mkv")[:7], frames_of("film.mkv")[-7:, ::2, ::2])


def test_the_name_of_a_story_that_is_not_there_is_no_prompt(longtake: Tool) -> None:
    longtake(*MAKE, "a red car")
    tell("a boat")
    made = Path("a.mkv").read_bytes()
    for change in (("extend", "a.mkv", "--frames", "8"), ("redo", "a.mkv", "--from", "10s")):
        ran = longtake(*change, "--prompts", "storry.txt")
        assert ran.status == 2 and "there is no file storry.txt; did you mean 'story.txt'?" in ran.err
    assert Path("a.mkv").read_bytes() == made


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("extend",), "which video"),
        (("extend", "a.mkv"), "give --frames"),
        (("redo", "a.mkv", "--seed", "2"), "give --from"),
        (("redo", "a.mkv", "--from", "3", "--seed", "2"), "there is no a.mkv"),
        (("extend", "a.mkv", "--frames", "0"), "0 frames more"),
        (("extend", "a.mkv", "--frames", "8", "--model", "toy"), "give --prompts"),
        ((*MAKE, "a car", "--keep-states", "much"), "no size"),
    ],
)
def test_what_is_missing_is_said(longtake: Tool, arguments: tuple[str, ...], message: str) -> None:
    ran = longtake(*arguments)
    assert ran.status == 2 and message in ran.err and len(ran.err.splitlines()) == 1


def test_a_story_that_is_edited_while_its_video_is_made(longtake: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    tell("[0s: a red car] [6s: a blue boat]")
    with monkeypatch.context() as patch:
        edited(patch, 40, "[0s: a dog] [9s: a green house]")
        ran = longtake(*STORY)
    assert ran.status == 0 and "others hold from frame 80 on" in ran.err
    assert prompts("a.json") == {"0": "a red car", "48": "a blue boat", "80": "a green house"}
    assert "a green house" in Path("a.vtt").read_text()
    assert "already complete" in longtake(*STORY).err
    assert longtake("generate", "--from", "a.json", "-o", "again.mkv").status == 0
    assert Path("again.mkv").read_bytes() == Path("a.mkv").read_bytes()


def test_an_edit_that_cannot_be_read_or_changes_nothing(longtake: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    tell("[0s: a red car] [6s: a blue boat]")
    with monkeypatch.context() as patch:
        edited(patch, 24, "[0s: a red car] [6s: ")
        ran = longtake(*STORY)
    assert ran.status == 0 and "the edited prompts change nothing: story.txt, line 1" in ran.err
    assert "turns" not in json.loads(Path("a.json").read_text())["request"]
    tell("[0s: a dog] [6s: a blue boat]")
    with monkeypatch.context() as patch:
        edited(patch, 24, "[0s: a cat] [6s: a blue boat]")
        assert longtake(*STORY, "--overwrite").status == 0
    assert prompts("a.json") == {"0": "a dog", "48": "a blue boat"}


def test_a_story_that_is_edited_after_its_run_was_stopped(longtake: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    tell("[0s: a red car] [6s: a blue boat]")
    show = Display.show

    def stopping(display: Display, frames: int, doing: str) -> None:
        show(display, frames, doing)
        if frames >= 40:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Display, "show", stopping)
        longtake(*STORY)
    tell("[0s: a dog] [5s: a green house]")
    ran = longtake(*STORY)
    assert ran.status == 0 and "edited: what has begun stays" in ran.err
    assert prompts("a.json") == {"0": "a red car", "48": "a green house"}
    longtake("generate", "--from", "a.json", "-o", "again.mkv")
    assert Path("again.mkv").read_bytes() == Path("a.mkv").read_bytes()


@pytest.mark.parametrize(
    ("text", "frame"), [("12s", 96), ("0.5s", 4), ("1:30", 720), ("0:01:30.5", 724), ("77", 77), ("0", 0)]
)
def test_moments_are_read_as_people_write_them(text: str, frame: int) -> None:
    assert moment(text, 8.0) == frame


@pytest.mark.parametrize("text", ["12 s", "-3", "1:5", "soon", "1e3", "", "9" * 400 + "s", "9" * 5000])
def test_other_words_are_no_moments(text: str) -> None:
    with pytest.raises(InputError, match="is no moment"):
        moment(text, 8.0)
