"""Videos made by the command line with the toy model: files, reports, repeats, interruptions."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from longtake.apps.cli import main
from longtake.errors import CheckpointError, InputError
from longtake.report import read_order
from longtake.video.record import read_record, write_record
from tests.models.tiny import TINY

MAKE = ("generate", "--model", "toy", "--prompts", "a red car | a boat", "--frames", "40", "--scale", "2")


def test_a_run_leaves_video_report_and_subtitles(longtake: Callable) -> None:
    ran = longtake(*MAKE, "-o", "x.mkv", "--json")
    assert ran.status == 0
    report = json.loads(ran.out)
    assert report == json.loads(Path("x.json").read_text())
    assert report["complete"] and report["frames"] == 40
    assert report["request"]["prompts"] == {"0": "a red car", "20": "a boat"}
    assert report["sampler"]["name"] == "fifo" and report["model"]["digest"]
    assert report["run"]["seconds"] > 0 and report["run"]["peak_memory_bytes"] > 1e7
    assert {"torch", "longtake", "threads", "processor"} <= set(report["environment"])
    assert report["quality"] == {"reason": "frames below 16 pixels are not measured"}
    assert "00:00:02.500 --> 00:00:05.000\na boat" in Path("x.vtt").read_text()
    assert "auto: torch finds" in ran.err


def test_what_an_earlier_version_began_with_guidance_and_other_bounds_is_left_alone(longtake: Callable) -> None:
    """Its record says nothing of bounds. Without guidance, and by solvers that bound x0 in a way of their own, frames
    are the same as then, and it goes on. Of bounds nothing is said where the model is another."""
    what = ("a duck at the sea", "--model", "pvdm-sprites", "--sampler", "autoregressive")
    make = ("generate", *what, "--steps", "1", "--frames", "16", "-o", "x.mkv")
    assert longtake(*make, "--guidance", "1").status == 0
    alone = read_record("x.mkv")
    assert alone and "clip" not in alone.settings
    solver = ("generate", *what, "--steps", "1", "--frames", "16", "--sampler.solver", "ddpm", "-o", "solver.mkv")
    assert longtake(*solver).status == 0
    other = read_record("solver.mkv")
    assert other and "clip" not in other.settings
    assert longtake(*make, "--overwrite").status == 0
    record = read_record("x.mkv")
    assert record and record.settings["clip"] == "x0_and_eps"
    settings = {name: value for name, value in record.settings.items() if name != "clip"}
    write_record("x.mkv", replace(record, settings=settings, finished=False))
    before = written()
    said = "x.mkv was begun with other settings: an earlier version bounds what guidance makes otherwise; use"
    assert said in longtake(*make).err
    was = record.settings["guidance"]
    assert f"begun with other settings: guidance was {was} and is now 1.0;" in longtake(*make, "--guidance", "1").err
    for steer in (("extend", "x.mkv", "--frames", "8"), ("redo", "x.mkv", "--from", "8", "--seed", "3", "-o", "y.mkv")):
        said = longtake(*steer).err
        assert "an earlier version bounds what guidance makes otherwise; bring the old ones back, or let " in said
        assert "'longtake generate --init x.mkv' with another -o" in said and "--overwrite" not in said
    assert written() == before
    write_record("x.mkv", record)
    said = longtake(*make, "--guidance", "2", "--model", "nuwa-sprites").err
    assert 'model was "pvdm-sprites" and is now "nuwa-sprites"' in said and "earlier version" not in said


def written() -> dict[str, int]:
    """Return when each file was written, but for the lock, which every process takes."""
    return {str(path): path.stat().st_mtime_ns for path in Path().rglob("*") if path.name != "lock"}


def test_the_same_command_again_does_nothing(longtake: Callable) -> None:
    longtake(*MAKE)
    before = written()
    ran = longtake(*MAKE, "--json")
    assert ran.status == 0
    assert "already complete" in ran.err
    assert json.loads(ran.out)["complete"]
    assert written() == before


def test_a_finished_run_is_found_before_weights_are_loaded(
    longtake: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = TINY["TextToVideoSDPipeline"](tmp_path)
    make = ("generate", "a", "--model", str(folder), "--sampler", "chunked", "--steps", "2", "--frames", "8")
    make = (*make, "-o", "x.mkv")
    assert longtake(*make).status == 0
    before = written()

    def load(*told: object, **more: object) -> None:
        raise CheckpointError("weights are loaded")

    monkeypatch.setattr("longtake.apps.generate.command.load_model", load)
    ran = longtake(*make, "--json")
    assert (ran.status, ran.err) == (0, "x.mkv is already complete (8 frames); nothing to do\n")
    assert json.loads(ran.out)["complete"] and written() == before
    # So is one that differs.
    assert "x.mkv was begun with other settings: seed was 0 and is now 3;" in longtake(*make, "--seed", "3").err
    assert "weights are loaded" in longtake(*make, "--seed", "3", "--overwrite").err
    weights = next((folder / "unet").glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "x.mkv was begun with other settings: the weights of the model are others;" in longtake(*make).err
    planned = json.loads(longtake(*make, "--dry-run", "--json").out)["earlier"]
    assert planned.endswith("this one would be refused: the weights of the model are others")
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "already complete" in longtake(*make).err
    Path("x.mkv").write_bytes(Path("x.mkv").read_bytes()[:-1] + b"?")
    assert "weights are loaded" in longtake(*make).err


def test_a_changed_setting_is_refused_by_name(longtake: Callable) -> None:
    longtake(*MAKE)
    ran = longtake(*MAKE, "--seed", "3")
    assert ran.status == 2
    assert "seed was 0 and is now 3" in ran.err.splitlines()[-1]
    assert longtake(*MAKE, "--seed", "3", "--overwrite").status == 0


def test_a_report_repeats_its_run(longtake: Callable) -> None:
    assert longtake(*MAKE, "-o", "x.mkv", "--seed", "9", "--sampler.eta", "0.5").status == 0
    assert longtake("generate", "--from", "x.json", "-o", "y.mkv").status == 0
    assert Path("x.mkv").read_bytes() == Path("y.mkv").read_bytes()
    again = read_order("y.json")
    assert read_order("x.json") == replace(again, output=replace(again.output, path=Path("x.mkv")))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a run says of itself."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setattr("sys.argv", ["longtake", *MAKE, "-o", "x.mkv"])
        with pytest.raises(SystemExit, match="0"):
            main()
    return (folder / "x.json").read_text()


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("seed",), 1, "there is no field 'seed'"),
        (("request", "sede"), 1, "did you mean 'seed'?"),
        (("request", "seed"), "1", 'seed is "1"'),
        (("request", "seed"), True, "seed is true"),
        (("request", "frames"), 0, "0 frames"),
        (("request", "prompts"), [], "prompts is missing"),
        (("request", "prompts"), {"x": "a"}, "numbers of frames"),
        (("sampler", "name"), "fifi", "did you mean 'fifo'?"),
        (("sampler", "eta"), "much", "eta is"),
        (("sampler", "compat"), "of", "compat is"),
        (("device",), "tpu", "device is 'tpu', which is none that longtake knows"),
        (("output", "crf"), 1.5, "crf is"),
        (("output", "crf"), None, "crf is null"),
        (("output", "scale"), -1, "output: scale -1 is below 1"),
        (("sampler", "name"), [], "there is no sampler '[]'"),
        (("model",), None, "model is null"),
    ],
)
def test_a_report_is_data_and_is_checked(
    longtake: Callable, report: str, path: tuple[str, ...], value: object, problem: str
) -> None:
    content = json.loads(report)
    place = content
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    Path("changed.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="changed.json cannot be repeated") as caught:
        read_order("changed.json")
    assert problem in str(caught.value)
    assert longtake("generate", "--from", "changed.json", "-o", "y.mkv").status == 2
    assert not Path("y.mkv").exists()


def test_other_weights_are_not_a_repeat(longtake: Callable, report: str) -> None:
    Path("x.json").write_text(report.replace('"digest": "', '"digest": "0'))
    ran = longtake("generate", "--from", "x.json", "-o", "y.mkv")
    assert ran.status == 2
    assert "made with other weights" in ran.err
    assert not Path("y.mkv").exists()


def test_a_finished_run_gives_the_plan_a_time(longtake: Callable) -> None:
    longtake(*MAKE)
    assert json.loads(longtake("plan", "a", "--model", "toy", "--json", "-o", "z.mp4").out)["seconds"] > 0


def test_prompts_that_are_never_reached_are_said(longtake: Callable) -> None:
    """Of their words nothing is: they change no frame."""
    ran = longtake("plan", "--model", "toy", "--prompts", '{"0": "a", "50": "zeppelin"}', "--frames", "40")
    assert "prompts from frame 50 on are not reached" in ran.err and "zeppelin" not in ran.err


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    # Started from a background job of a shell, this process ignores Ctrl-C, and so would its children.
    code = "import signal; signal.signal(2, signal.default_int_handler); from longtake.apps.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def grown(path: Path, size: int) -> None:
    """Wait until a file is so large."""
    deadline = time.monotonic() + 300
    while (not path.exists() or path.stat().st_size < size) and time.monotonic() < deadline:
        time.sleep(0.05)


def test_a_run_that_is_stopped_before_its_first_frames_does_not_say_that_it_plays(
    longtake: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.apps.generate.command import Stop

    with monkeypatch.context() as at_once:
        at_once.setattr(Stop, "check", lambda stop: stop.ask(signal.SIGINT, None))
        ran = longtake("generate", "a", "--model", "toy", "--frames", "40", "-o", "x.mp4")
    assert ran.status == 130
    assert ran.err.splitlines()[-1].endswith("x.mp4 holds no frames yet; the same command continues it")
    assert longtake("generate", "a", "--model", "toy", "--frames", "40", "-o", "x.mp4").status == 0


def test_signals_end_an_endless_run_in_good_order(longtake: Callable) -> None:
    from longtake.video.read import read_frames

    video, seconds, size, err = Path("x.mkv"), [], 0, ""
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = start(Path(), "generate", "a", "--model", "toy", "--frames", "endless", "-o", "x.mkv", "--json")
        grown(video, size + 20_000)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
        assert process.returncode == status, err
        assert "the same command continues it" in err.splitlines()[-1]
        assert "Traceback" not in err
        report = json.loads(out)
        assert not report["complete"]
        assert sum(len(chunk) for chunk in read_frames(video)) == report["frames"]
        seconds.append(report["run"]["seconds"])
        size = video.stat().st_size
    assert "resume   from frame" in err
    assert seconds[1] > seconds[0]
    assert report["run"]["processes"] == 2
    assert "NOTE The video is not complete" in Path("x.vtt").read_text()
