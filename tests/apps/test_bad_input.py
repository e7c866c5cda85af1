"""Mistakes of the user: one line, exit status 2, no file touched."""

from collections.abc import Callable
from pathlib import Path

import pytest

from longtake.models.embedded import WEIGHTS

TOY = ("--model", "toy")
TREE = ("--sampler", "nuwa-xl")
MISTAKES = [
    (("generate",), "there is no prompt"),
    (("generate", ""), "the prompt is empty"),
    (("generate", "a", *TOY, "--frames", "0"), "0 frames cannot be made"),
    (("generate", "a", *TOY, "--frames", "-4"), "-4 frames cannot be made"),
    (("generate", "a", *TOY, "--frames", "many"), "neither a whole number nor 'endless'"),
    (("generate", "a", "b", *TOY), "one word too many"),
    (("generate", "a", "--model", "toi"), "did you mean 'toy'?"),
    (("generate", "a", "--model", "/"), "holds no model_index.json"),
    (("generate", "a", *TOY, "--sampler", "fifi"), "did you mean 'fifo'?"),
    (("generate", "a", *TOY, "--sampler"), "there is no sampler ''"),
    (("generate", "a", *TOY, "--framse", "3"), "did you mean '--frames'?"),
    (("generate", "a", *TOY, "--sampler.partition", "3"), "did you mean 'partitions'?"),
    (("generate", "a", *TOY, "--sampler.qqqqqq", "3"), "no sampler setting 'qqqqqq'; known: compat, "),
    (("generate", "a", *TOY, "--sampler.partitions", "x"), "'x' is no whole number"),
    (("generate", "a", *TOY, "--sampler.partitions", "0"), "must be 1 or more"),
    (("generate", "a", *TOY, "--overwrite=yes"), "--overwrite takes no value; write --overwrite, or leave it out"),
    (("generate", *TOY, "--overwrite=yes"), "--overwrite takes no value"),
    (("generate", "a", *TOY, "--vae_tiling=1"), "--vae-tiling takes no value; write --vae-tiling, or leave it out"),
    (("plan", "a", *TOY, "--json="), "--json takes no value; write --json, or leave it out"),
    (("evaluate", "drift", "notes.mp4", "--json=1"), "--json takes no value"),
    (
        ("generate", "a", *TOY, "--sampler.lookahead=false"),
        "--sampler.lookahead takes no value; write --sampler.lookahead, or --sampler.no-lookahead",
    ),
    (("generate", "a", *TOY, "--sampler.no-lookahead=1"), "write --sampler.no-lookahead, or --sampler.lookahead"),
    (("generate", "a", *TOY, "--range", "3:9"), "cannot make a part"),
    (("generate", "a", *TOY, *TREE, "--range", "9"), "is no range"),
    (("generate", "a", *TOY, *TREE, "--range", "10:5"), "--range 10:5 holds no frame; write the first frame"),
    (("generate", "a", *TOY, *TREE, "--range", "100:129"), "no frames 100 to 128; the video has frames 0 to 127"),
    (("plan", "a", *TOY, *TREE, "--sampler.before", "."), "--sampler.before . is a folder"),
    (("plan", "a", *TOY, *TREE, "--sampler.before", "-5"), "--sampler.before, line 1, column 1: this is neither"),
    (("generate", "a", *TOY, *TREE, "--frames", "endless"), "an endless video needs a number of levels"),
    (("generate", "a", *TOY, *TREE, "--workers", "2"), "--workers has no effect"),
    (("generate", "a", *TOY, *TREE, "--executor", "processes", "--workers", "0"), "0 workers"),
    (("generate", "a", *TOY, *TREE, "--executor", "processes", "--address", "a:1"), "--address has no effect"),
    (("generate", "a", *TOY, *TREE, "--executor", "ranks"), "torchrun"),
    (("generate", "a", *TOY, "--executor", "processes"), "fifo has no tasks"),
    (("generate", "a", *TOY, "--steps", "5"), "fixes the number of steps"),
    (("generate", "a", *TOY, "--seed"), "--seed needs a value"),
    (("generate", "a", *TOY, "--guidance", "high"), "'high' is no number"),
    (("generate", "a", *TOY, "--device", "tpu"), "'tpu' is none that longtake knows; known: auto, cpu, cuda, cuda:1"),
    (("generate", "a", *TOY, "-o", "x.avi"), "unknown ending '.avi'"),
    (("generate", "a", *TOY, "-o", "nowhere/x.mp4"), "does not exist"),
    (("generate", "a", *TOY, "-o", "/dev/null"), "cannot write /dev/null: it is a pipe or a device, not a file"),
    (("generate", "a", *TOY, "-o", "/proc/x.mp4"), "cannot write /proc/x.mp4: no file can be made in /proc ("),
    (("report", "notes.mp4", "-o", "/proc/x.html"), "cannot write /proc/x.html: no file can be made in /proc ("),
    (("train", "embedded", "vae", "--runs", "/proc/x"), "cannot write /proc/x: no file can be made in /proc ("),
    (("generate", "a", *TOY, "-o", ""), "-o/--output is empty; give PATH, or leave it out"),
    (("generate", "a", *TOY, "--init", ""), "--init is empty; give FILE, or leave it out"),
    (("generate", "a", *TOY, "--sampler.keyframes", ""), "--sampler.keyframes is empty; give FOLDER, or leave it out"),
    (("generate", "a", "--model", ""), "--model is empty; give NAME|FOLDER, or leave it out"),
    (("generate", "a", "--model="), "--model is empty; give NAME|FOLDER, or leave it out"),
    (("generate", "a", "--lora", "x", "--lora", ""), "--lora is empty; give PATH[:SCALE], or leave it out"),
    (("generate", "a", *TOY, *TREE, "--sampler.before", ""), "--sampler.before is empty; give a value"),
    (("train", "adapt", "notes", "--base", ""), "--base is empty; give NAME|FOLDER, or leave it out"),
    (("report", ""), "FILE is empty; give one; 'longtake report --help'"),
    (("report", "a.mp4", ""), "FILE is empty; give one; 'longtake report --help'"),
    (("evaluate", "drift"), "VIDEO is missing; give a video file, or a folder of numbered PNG files; 'longtake evalu"),
    (("evaluate", "fvd"), "--real DIR|sprites and --fake DIR are missing; 'longtake evaluate fvd --help'"),
    (("generate", "a", "--quantize", "fp9"), "--quantize cannot be 'fp9'; did you mean 'fp8'? known: fp8, int8; 'lo"),
    (("generate", "a", "--offload", "x"), "--offload cannot be 'x'; known: auto, group, model, none, text; 'longtake"),
    (("generate", "a", "--sampler", "video-infinity", "--sampler.local-phase", "1", "2"), "phase cannot be '1 2'; '"),
    (("generate", "a", *TOY, "--keyframes", "x"), "no option '--keyframes'; did you mean '--sampler.keyframes'?"),
    (("generate", "a", *TOY, "--keyframe", "x"), "no option '--keyframe'; did you mean '--sampler.keyframes'?"),
    (("generate", "a", *TOY, "--sampler.frames", "3"), "no option '--sampler.frames'; did you mean '--frames'?"),
    (("generate", "a", *TOY, "--part", "3"), "no option '--part'; did you mean"),
    (("serve", ""), "FOLDER is empty; give one"),
    (("extend", "", "--frames", "8"), "FILE is empty; give one"),
    (("check", ""), "which model is missing"),
    (("evaluate", "vbench", "notes.mp4", "--dino", ""), "--dino is empty; give FILE, or leave it out"),
    (("generate", "a", *TOY, "-o", "."), "no name of its own"),
    (("generate", "a", *TOY, "-o", ".."), "no name of its own"),
    (("generate", "a", *TOY, "-o", "notes"), "is a file, but its name means a folder"),
    (("generate", "a", *TOY, "-o", "notes.mp4"), "belongs to no longtake run"),
    (("generate", "a", *TOY, "-o", "notes.mkv"), "notes.json exists"),
    (("generate", "a", *TOY, "-o", "x.mkv", "--crf", "3"), "--crf has no effect"),
    (("generate", "a", *TOY, "--crf", "99"), "outside 0 to 51"),
    (("generate", "a", *TOY, "--fps", "0"), "fps 0.0 cannot be stored; give a rate of 1/1001 to 1000"),
    (("generate", "a", *TOY, "--fps", "1e-9"), "fps 1e-09 cannot be stored; give a rate of 1/1001 to 1000"),
    (("generate", "a", *TOY, "--guidance", "-3"), "--guidance -3 is out of range; use 0 to 100"),
    (("generate", "a", *TOY, "--scale", "0"), "below 1"),
    (("generate", "a", *TOY, "--scale", "2000"), "up to 8192 a side"),
    (("generate", "a \udcff", *TOY), "no Unicode text (character 2)"),
    (("generate", "a", *TOY, "--guidance", "3", "--negative-prompt", "\udcff"), "the negative prompt is no Unicode"),
    (("generate", "a", *TOY, "--negative-prompt", "b"), "has no effect at guidance 1"),
    (("generate", "a", *TOY, "--told-fps", "8"), "told_fps has no effect on toy"),
    (("generate", "a", *TOY, "--told-fps", "0"), "no network can be told of 0.0"),
    (("generate", "a", *TOY, "--prompts", "a | b"), "both a prompt and --prompts"),
    (("generate", *TOY, "--prompts", "a || b"), "line 1, column 4"),
    (
        ("generate", *TOY, "--prompts", "notes.json", "-o", "notes.mp4", "--overwrite"),
        "it is read and would be",
    ),
    (
        ("generate", "a", *TOY, "--init", "notes.mp4", "-o", "./notes.mp4", "--overwrite"),
        "it is read and would be",
    ),
    (
        ("generate", "a", *TOY, "--audio", "notes.mp4", "-o", "notes.mp4", "--overwrite"),
        "it is read and would be",
    ),
    (
        ("evaluate", "state", "notes.mp4", "--track", "./notes.mp4"),
        "it is read and would be replaced; choose",
    ),
    (("evaluate", "state", "notes.mp4", "--track", "notes.json"), "it belongs to notes.mp4, which is read"),
    (("generate", "--from", "nothing.json"), "cannot read nothing.json"),
    (("generate", "--from", "notes.txt"), "not JSON"),
    (("generate", "--from", "notes.json"), "no report"),
    (("generate", "--from", "notes.json", "--seed", "3"), "--seed has no place beside it"),
    (("plan", "a", *TOY, "--frames", "0"), "0 frames cannot be made"),
    (("plan", "a", *TOY, "--frames", "9" * 400), "more than 1,000,000,000,000,000 frames cannot be counted"),
    (("generate", "a", *TOY, "--keep-states", "9" * 400), "is no size; write bytes, or 500MB or 2GB"),
    (("serve", "videos", "--max-upload", "9" * 400 + "GB"), "is no size; write bytes, or 500MB or 2GB"),
    (("genrate", "a"), "did you mean 'generate'?"),
    (("evaluate", "promts", "x.mp4"), "did you mean 'evaluate prompts'?"),
    (("evaluate", "prompts", "nothing.mp4"), "there is no nothing.mp4"),
    (("evaluate", "drift", "nothing.mp4"), "there is no nothing.mp4"),
    (("evaluate", "fvd", "--real", "nothing", "--fake", "notes.mp4"), "there is no folder nothing"),
    (("evaluate", "fvd", "--real", ".", "--fake", ".", "--network", "no.pt"), "there is no file no.pt"),
    (("check", "--model", "toy"), "takes MODEL without --model before it; write 'longtake check MODEL'"),
    (("check", "toy", "--prompts", "notes"), "no option '--prompts'"),
    (("extend", "--file=notes.mp4", "--frames", "8"), "takes FILE without --file before it"),
    (
        ("generate", "a", "--model", "sprites-fast", "--guidance", "2"),
        "sprites-fast has learnt to say guidance 3 in one branch and takes 1 alone, not 2; leave --guidance out, or "
        "choose the model sprites, which takes any guidance",
    ),
    (
        ("generate", "a", "--model", "sprites-fast", "--negative-prompt", "b"),
        "no effect on sprites-fast, which has learnt to say guidance 3 in one branch; leave it out, or choose",
    ),
    (
        ("plan", "a", "--model", "sprites-fast", "--sampler.partitions", "2", "--sampler.guided-windows", "1"),
        "guided_windows has no effect on sprites-fast, which has learnt to say guidance 3 in one branch",
    ),
    (
        ("plan", "a", "--sampler", "nuwa-xl", "--frames", "61", "--sampler.fine-guidance", "2"),
        "fine_guidance has no effect on sprites-fast, which has learnt to say guidance 3 in one branch",
    ),
    (("plan", "a", "--split-guidance"), "--split-guidance has no effect on sprites-fast, which has learnt to say"),
    (("train", "embeded"), "did you mean 'train embedded'?"),
    (("train", "embedded"), "what to train is missing"),
    (("train", "embedded", "vea"), "did you mean 'vae'?"),
    (("train", "embedded", "vae", "--runs", "notes.txt"), "a folder is meant"),
    (("data", "sprites"), "--preview"),
    (("data", "sprites", "--preview", "-o", "x.jpg"), "ends in .png"),
    (("models", "--jsn"), "did you mean '--json'?"),
]


def write_notes(folder: Path) -> None:
    """Put files there that are the user's own."""
    for name in ("notes", "notes.txt", "notes.mp4"):
        (folder / name).write_text("mine")
    (folder / "notes.json").write_text('{"0": "a"}')


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(("arguments", "problem"), MISTAKES, ids=[" ".join(row[0])[:60] for row in MISTAKES])
def test_a_mistake_is_one_line_and_touches_nothing(
    longtake: Callable, arguments: tuple[str, ...], problem: str
) -> None:
    write_notes(Path())
    before = contents(Path())
    ran = longtake(*arguments)
    assert ran.status == 2
    assert problem in ran.err
    assert ran.err.startswith("longtake: ") and ran.err.count("\n") == 1
    assert ran.out == ""
    assert contents(Path()) == before


COMPARE = ("compare", *TOY, "--samplers", "fifo", "--prompts", "notes.txt", "--frames", "16")
WRITE_A_FILE = [
    ("batch", "notes.txt", *TOY, "-o"),
    ("report", "notes.mp4", "-o"),
    ("check", "toy", "-o"),
    ("data", "sprites", "--preview", "-o"),
]
WRITE_A_FOLDER = [
    ("generate", "a", *TOY, "-o"),
    ("generate", "a", *TOY, "--dry-run", "-o"),
    (*COMPARE, "-o"),
    (*COMPARE, "--dry-run", "-o"),
    ("convert", "pvdm", "notes", "-o"),
    ("convert", "safetensors", str(WEIGHTS / "sprites"), "-o"),
    ("data", "shards", ".", "--licence", "MIT", "-o"),
    ("train", "embedded", "vae", "--runs"),
    ("train", "judge", "-o"),
    ("train", "pvdm-autoencoder", "sprites", "--perceptual", "none", "-o"),
    ("serve",),
]


def named(arguments: tuple[str, ...]) -> str:
    return " ".join(arguments[:2])


@pytest.mark.parametrize("output", ["notes/x", "notes/new/x.mkv"])
@pytest.mark.parametrize("arguments", WRITE_A_FILE + WRITE_A_FOLDER, ids=named)
def test_an_output_below_a_file_is_refused_as_such(longtake: Callable, arguments: tuple[str, ...], output: str) -> None:
    write_notes(Path())
    ran = longtake(*arguments, output + ".png" * ("--preview" in arguments))
    assert (ran.status, ran.out) == (2, "")
    assert f"{Path('notes').absolute()} is a file, not a folder; choose another place\n" in ran.err


@pytest.mark.parametrize("arguments", WRITE_A_FOLDER, ids=named)
def test_a_folder_that_is_a_link_to_nothing_is_refused_as_such(longtake: Callable, arguments: tuple[str, ...]) -> None:
    write_notes(Path())
    Path("new").symlink_to("gone")
    Path("round").symlink_to("round")
    for output, how in (("new", f"to {Path('gone').absolute()}, which is not there"), ("round", "that leads back to")):
        ran = longtake(*arguments, output)
        assert (ran.status, ran.out) == (2, "") and f"cannot write {output}: it is a link {how}" in ran.err


@pytest.mark.parametrize("arguments", [*WRITE_A_FILE, *WRITE_A_FOLDER[:2]], ids=named)
def test_a_file_that_is_a_link_into_no_folder_is_refused_as_such(
    longtake: Callable, arguments: tuple[str, ...]
) -> None:
    write_notes(Path())
    ending = {"report": ".html", "data": ".png"}.get(arguments[0], ".mkv")
    listed = "new.jsonl" if arguments[0] == "batch" else f"new{ending}"
    Path(listed).symlink_to("gone/new")
    ran = longtake(*arguments, f"new{ending}")
    assert (ran.status, ran.out) == (2, "")
    assert f"cannot write {listed}: it is a link into {Path('gone').absolute()}, which is not there" in ran.err


def test_a_dry_run_of_a_comparison_takes_the_folders_that_the_run_takes(longtake: Callable) -> None:
    write_notes(Path())
    assert longtake(*COMPARE, "--dry-run", "-o", "not/there/yet").status == 0 and not Path("not").exists()
    assert "it is a file, but a folder is meant" in longtake(*COMPARE, "--dry-run", "-o", "notes").err


def test_a_command_that_is_called_where_no_folder_is_any_more_says_so(
    longtake: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    said = "longtake: the folder that this was called in is not there any more; go to one that is\n"
    assert longtake("plan", "a", *TOY).err == said
    assert longtake("plan", "a", *TOY, "-o", str(tmp_path / "x.mkv")).status == 0


def test_no_mistake_loads_torch_or_a_model(tmp_path: Path, light: Callable) -> None:
    write_notes(tmp_path)
    light([arguments for arguments, _ in MISTAKES], tmp_path, {"torch", "diffusers", "transformers", "av"})


def test_an_odd_size_is_refused_where_the_format_cannot_store_it(
    longtake: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from longtake.models import toy_spec

    odd = replace(toy_spec.TOY, height=9, width=9, latent_shape=(3, 8, 9, 9))
    monkeypatch.setattr(toy_spec, "TOY", odd)
    ran = longtake("generate", "a", *TOY)
    assert (ran.status, "even height and width" in ran.err) == (2, True)
    assert longtake("plan", "a", *TOY, "-o", "x.mkv").status == 0
