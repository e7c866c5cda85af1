"""`longtake batch`: many videos by one start."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from longtake.apps.batch import Progress
from longtake.apps.generate.stopping import Stop, StoppedError
from longtake.video.read import read_frames

PROMPTS = "a cat spins in the forest\n\na rocket flies up in the night sky\n"
FAST = ("--sampler", "chunked", "--steps", "2", "--frames", "16", "-o", "made/a.mkv")
TOY = ("--model", "toy", *FAST)


@pytest.fixture
def here(longtake: Callable) -> Path:
    Path("made").mkdir()
    Path("prompts.txt").write_text(PROMPTS)
    return Path("made")


def made(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.mkv")) + sorted(folder.glob("*.jsonl"))}


@pytest.mark.parametrize("command", ["batch", "compare"])
def test_what_is_complete_is_said_where_the_rest_is_stopped(
    longtake: Callable, here: Path, monkeypatch: pytest.MonkeyPatch, command: str
):
    from longtake.apps import batch

    made_by = batch.generate

    def once(*asked: object, **more: object) -> object:
        if list(here.rglob("*.jsonl")):
            raise StoppedError(signal.SIGTERM)
        return made_by(*asked, **more)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(batch, "generate", once)
    asked = {
        "batch": ("batch", "prompts.txt", *TOY),
        "compare": (
            "compare",
            "--samplers",
            "chunked",
            "--prompts",
            "prompts.txt",
            *TOY[:2],
            *FAST[2:6],
            "-o",
            "made/c",
        ),
    }
    ran = longtake(*asked[command])
    assert ran.status == 128 + signal.SIGTERM
    assert "stopped by SIGTERM: complete so far 1 of 2 videos; the same command continues\n" in ran.err


def test_every_prompt_is_made_with_every_seed_as_generate_would(longtake: Callable, here: Path):
    ran = longtake("batch", "prompts.txt", "--seeds", "2", "--seed", "5", *TOY)
    assert ran.status == 0, ran.err
    lines = [json.loads(line) for line in (here / "a.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == [f"a-{number:06d}.mkv" for number in range(4)]
    prompts = PROMPTS.split("\n")[::2]
    assert [(line["prompt"], line["request"]["seed"]) for line in lines] == [
        (prompts[0], 5), (prompts[1], 5), (prompts[0], 6), (prompts[1], 6)
    ]  # fmt: skip
    alone = longtake("generate", prompts[1], "--seed", "6", *TOY[:-1], "alone.mkv")
    assert alone.status == 0 and Path("alone.mkv").read_bytes() == (here / "a-000003.mkv").read_bytes()
    before = made(here)
    again = longtake("batch", "prompts.txt", "--seeds", "2", "--seed", "5", *TOY)
    assert again.status == 0 and "0 videos made, 4 in made/a.jsonl" in again.err and made(here) == before
    other = longtake("batch", "prompts.txt", "--seeds", "2", "--seed", "5", "--guidance", "2", *TOY)
    assert (
        other.status == 2 and "begun with other settings: guidance was 1.0 and is" in other.err and made(here) == before
    )


def test_a_line_is_a_story_as_generate_reads_it(longtake: Callable, here: Path):
    Path("prompts.txt").write_text("a cat\n\na dog | a [0] car\n[0s: a cat] [1s: a dog]\n")
    Path("a cat").write_text("a file by the name of a line | is not read")
    ran = longtake("batch", "prompts.txt", *TOY)
    assert ran.status == 0, ran.err
    lines = [json.loads(line) for line in (here / "a.jsonl").read_text().splitlines()]
    assert [line["request"]["prompts"] for line in lines] == [
        {"0": "a cat"}, {"0": "a dog", "8": "a [0] car"}, {"0": "a cat", "8": "a dog"}
    ]  # fmt: skip
    assert [line["prompt"] for line in lines] == ["a cat", "a dog | a [0] car", "a cat | a dog"]
    alone = longtake("generate", "--prompts", "a dog | a [0] car", *TOY[:-1], "alone.mkv")
    assert alone.status == 0 and Path("alone.mkv").read_bytes() == (here / "a-000001.mkv").read_bytes()
    assert Path("alone.vtt").read_text() == (here / "a-000001.vtt").read_text()
    # As an earlier version listed a story of a comparison.
    text = (here / "a.jsonl").read_text().replace('"a dog | a [0] car"', '"a dog"')
    (here / "a.jsonl").write_text(text)
    again = longtake("batch", "prompts.txt", *TOY)
    assert again.status == 0 and "0 videos made, 3 in made/a.jsonl" in again.err, again.err


def test_seconds_of_a_story_are_those_of_its_file(longtake: Callable, here: Path):
    Path("prompts.txt").write_text("[0s: a cat] [1s: a dog]\n")
    assert longtake("batch", "prompts.txt", "--fps", "4", *TOY).status == 0
    assert json.loads((here / "a.jsonl").read_text())["request"]["prompts"] == {"0": "a cat", "4": "a dog"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a | | b", "prompts.txt, line 3, column 4: the prompt is empty"),
        ("[4s: a]", "prompts.txt, line 3, column 1: nothing is said about frames 0 to 32"),
        ("|".join("abcdefghijklmnopq"), "prompts.txt, line 3, column 1: 17 prompts do not fit into 16 frames"),
        ("a", "blend has no effect on a single prompt"),
        ("[0: a] [2: b]", "a blend of 4 frames is longer than a prompt of 2"),
    ],
)
def test_a_story_that_cannot_be_is_refused_before_anything_is_made(
    longtake: Callable, here: Path, line: str, reason: str
):
    Path("prompts.txt").write_text(f"a cat | a dog\n\n{line}\n")
    joint = ("--model", "toy", "--sampler", "freenoise", "--sampler.blend", "4", *FAST[2:])
    ran = longtake("batch", "prompts.txt", *joint)
    assert ran.status == 2 and reason in ran.err and len(ran.err.splitlines()) == 1, ran.err
    assert not any(here.iterdir())


def test_words_that_the_model_does_not_know_are_said_of_every_prompt(longtake: Callable, here: Path):
    Path("prompts.txt").write_text("a red car\n\na red car | a red zeppelin\n")
    warning = "the model sprites-fast does not know 'zeppelin'; its 131 words are listed by"
    compared = longtake("compare", "--prompts", "prompts.txt", "--frames", "24", "--dry-run")
    assert f"warning: fifo: {warning}" in compared.err and f"warning: chunked: {warning}" in compared.err
    made = longtake("batch", "prompts.txt", *FAST)
    assert made.status == 0 and made.err.count(f"warning: {warning}") == 1, made.err


def test_what_is_lost_is_made_again_with_the_same_bytes(longtake: Callable, here: Path):
    assert longtake("batch", "prompts.txt", *TOY).status == 0
    before = made(here)
    # As a kill leaves it: the last video without its line, and half of a line.
    content = (here / "a.jsonl").read_bytes()
    (here / "a.jsonl").write_bytes(content[: content.index(b"\n") + 20])
    (here / "a-000000.mkv").unlink()
    for rest in (here / "a-000000.json", here / "a-000000.vtt"):
        rest.unlink()
    shutil.rmtree(here / "a-000000.mkv.state")
    assert longtake("batch", "prompts.txt", *TOY).status == 0
    assert made(here) == before


@pytest.mark.parametrize("line", ["{}, mine", "3", "[" * 100_000, '{"a":' * 2_000 + "1" + "}" * 2_000])
def test_a_line_that_no_batch_wrote_is_refused_and_kept(longtake: Callable, here: Path, line: str):
    (here / "a.jsonl").write_text(line + "\n")
    ran = longtake("batch", "prompts.txt", *TOY)
    told = "made/a.jsonl: line 1 is no line of a manifest; choose another -o, or --overwrite it\n"
    assert ran.status == 2 and ran.err.endswith(told) and "Traceback" not in ran.err
    assert (here / "a.jsonl").read_text() == line + "\n"


def test_a_list_that_leads_to_no_folder_is_refused(longtake: Callable, here: Path):
    (here / "a.jsonl").symlink_to("gone/a.jsonl")
    ran = longtake("batch", "prompts.txt", *TOY)
    assert ran.status == 2 and "a.jsonl: it is a link into " in ran.err and "gone, which is not there" in ran.err


def test_a_list_with_more_videos_says_so(longtake: Callable, here: Path):
    assert longtake("batch", "prompts.txt", *TOY).status == 0
    Path("prompts.txt").write_text(PROMPTS.split("\n")[0])
    ran = longtake("batch", "prompts.txt", *TOY)
    assert ran.status == 0 and "0 videos made, 1 of the 2 in made/a.jsonl" in ran.err


def test_how_the_model_is_loaded_is_heeded_and_kept(longtake: Callable, here: Path):
    Path("prompts.txt").write_text("a cat spins in the\u2028 forest\n", encoding="utf-8")
    ran = longtake("batch", "prompts.txt", "--quantize", "fp8", *FAST)
    assert ran.status == 0, ran.err
    (line,) = map(json.loads, (here / "a.jsonl").read_text().split("\n")[:-1])
    assert line["model"]["quantize"] == "fp8" and line["prompt"] == "a cat spins in the\u2028 forest"
    refused = longtake("batch", "prompts.txt", "--lora", "none.safetensors", *FAST[:-1], "b.mkv")
    assert refused.status == 2 and "none.safetensors" in refused.err and refused.err.count("\n") == 1
    nothing = longtake("batch", "0", *PVDM)
    assert nothing.status == 2 and "nothing to make" in nothing.err


PVDM = ("--model", "pvdm-sprites", "--sampler", "autoregressive", "--steps", "2", "--frames", "32", "-o", "made/a.mkv")


def test_videos_that_share_their_calls_are_those_made_alone_but_for_rounding(longtake: Callable, here: Path):
    Path("prompts.txt").write_text(PROMPTS.replace("forest", "forest | a cat in space"))
    alone = longtake("batch", "prompts.txt", "--seeds", "2", *PVDM[:-1], "alone.mkv")
    assert alone.status == 0, alone.err
    ran = longtake("batch", "prompts.txt", "--seeds", "2", "--together", "3", *PVDM)
    assert ran.status == 0, ran.err
    for number in range(4):
        one, other = (
            np.concatenate(list(read_frames(f"{name}-{number:06d}.mkv"))).astype(int) for name in ("alone", "made/a")
        )
        # bfloat16 rounds otherwise in other batches.
        assert one.shape == other.shape == (32, 64, 64, 3) and np.abs(one - other).mean() < 2
    before = made(here)
    for rest in sorted(here.glob("a-000001.*")):
        shutil.rmtree(rest) if rest.is_dir() else rest.unlink()
    content = (here / "a.jsonl").read_bytes()
    (here / "a.jsonl").write_bytes(content[: content.index(b"\n") + 1])
    assert longtake("batch", "prompts.txt", "--seeds", "2", "--together", "3", *PVDM).status == 0
    assert made(here) == before
    assert (
        "of video 0: together was 3 and is now 1; give" in longtake("batch", "prompts.txt", "--seeds", "2", *PVDM).err
    )


def test_a_manifest_is_scored(longtake: Callable, here: Path):
    assert longtake("batch", "prompts.txt", "--seeds", "2", *TOY).status == 0
    (here / "stray.mkv").write_text("no video")
    worlds = ("--real", "sprites", "--worlds", "4", "--size", "8")
    ran = longtake("evaluate", "fvd", "--json", *worlds, "--fake", "made/a.jsonl")
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["clips_fake"] == 4 and "stray" not in ran.err


def test_mistakes_are_one_line_and_touch_nothing(longtake: Callable, here: Path):
    Path("empty.txt").touch()
    Path("p.jsonl").write_text(PROMPTS)
    for arguments, reason in (
        ((), "what to make is missing"),
        (("4",), "this model reads text"),
        (("none.txt",), "cannot read 'none.txt'"),
        (("empty.txt",), "holds no prompts"),
        (("prompts.txt", "--seeds", "0"), "--seeds 0"),
        (("prompts.txt", "--together", "2"), "fifo makes one video at a time"),
        (("prompts.txt", "--frames", "endless"), "endless"),
    ):
        ran = longtake("batch", *arguments, "-o", "made/a.mkv")
        assert ran.status == 2 and reason in ran.err and len(ran.err.splitlines()) == 1, ran.err
    assert not any(here.iterdir())
    replacing = longtake("batch", "p.jsonl", *TOY[:-1], "p.mkv", "--overwrite")
    assert replacing.status == 2 and "p.jsonl: it is read and would be replaced" in replacing.err
    assert Path("p.jsonl").read_text() == PROMPTS


@pytest.mark.slow
def test_a_killed_batch_goes_on_to_the_same_files(longtake: Callable, here: Path):
    assert longtake("batch", "prompts.txt", "--seeds", "3", *FAST).status == 0
    whole = made(here)
    Path("other").mkdir()
    command = [sys.executable, "-m", "longtake", "batch", "prompts.txt", "--seeds", "3", *FAST[:-1], "other/a.mkv"]
    for lines in (1, 3):
        process = subprocess.Popen(command, env=os.environ, stderr=subprocess.DEVNULL)
        manifest = Path("other/a.jsonl")
        while process.poll() is None and (not manifest.exists() or manifest.read_bytes().count(b"\n") < lines):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, env=os.environ, check=False, stderr=subprocess.DEVNULL).returncode == 0
    assert made(Path("other")) == whole


def test_how_long_the_others_take_is_said_on_the_way(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    clock = [0.0]
    monkeypatch.setattr("longtake.apps.batch.time.monotonic", lambda: clock[0])
    progress = Progress(8, "made", Stop())
    progress.skip(2)
    clock[0] = 61.0
    progress.on_the_way(0, 100)
    clock[0] = 90.0
    progress.on_the_way(50, 100)
    clock[0] = 122.0
    progress.on_the_way(50, 100)
    for clock[0] in (244.0, 245.0, 488.0, 600.0, 700.0, 750.0):
        progress.add()
    assert capsys.readouterr().err.splitlines() == [
        "2/8 videos and 0 of 100 frames made",
        "2/8 videos and 50 of 100 frames made, about 22 min 22 s left",
        "3/8 videos made, 4 min 4 s each, about 20 min 20 s left",
        "5/8 videos made, 2 min 43 s each, about 8 min 8 s left",
        "6/8 videos made, 2 min 30 s each, about 5 min 0 s left",
        "7/8 videos made, 2 min 20 s each, about 2 min 20 s left",
        "8/8 videos made, 2 min 5 s each",
    ]
