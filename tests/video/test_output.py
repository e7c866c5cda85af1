"""Which outputs are refused before any work."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longtake._generate import generate
from longtake.errors import InputError, LongtakeError, OutputError
from longtake.models.toy import Toy
from longtake.request import PromptTimeline, Request
from longtake.samplers.fifo.plan import Fifo
from longtake.video.encoding import exact_rate
from longtake.video.formats import FORMATS
from longtake.video.output import Output, Target, check_output, earlier_run, make_target
from longtake.video.sink import Sink


def test_the_ending_tells_the_format(tmp_path: Path) -> None:
    formats = {"a.mp4": "mp4", "a.MP4": "mp4", "a.mkv": "mkv", "frames": "png", "v1.5/": "png"}
    assert {name: check_output(f"{tmp_path}/{name}").name for name in formats} == formats


def test_a_row_of_the_table_is_all_that_a_format_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(FORMATS["mkv"], name="nut", ending=".nut", about="an example", even=True)
    monkeypatch.setitem(FORMATS, "nut", row)
    found = target(tmp_path / "a.nut", {})
    assert found.format is row and "crf" not in found.settings
    with pytest.raises(InputError, match="NUT needs an even height"):
        target(tmp_path / "a.nut", {"size": (63, 64)})
    with pytest.raises(OutputError, match=r"a.nut \(an example\)"):
        check_output(tmp_path / "a.gif")
    Sink(target(tmp_path / "a.nut", {})).__exit__(None, None, None)
    assert (tmp_path / "a.nut").is_file()


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (".", "cannot write to .: this path has no name of its own"),
        ("/", "cannot write to /: this path has no name of its own"),
        ("x" * 300 + ".mp4", "xxx...: the name is too long; choose a shorter -o"),
        ("x" * 248 + ".mp4", "xxx...: the name is too long"),
        ("a\0b.mp4", "cannot write 'a\\x00b.mp4': no name has such a character"),
        ("file.txt/x.mp4", "file.txt is a file, not a folder"),
    ],
)
def test_a_path_that_cannot_be_is_refused_by_the_api_as_by_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file.txt").touch()
    with pytest.raises(OutputError) as caught:
        generate(Toy(), Request(prompts=PromptTimeline.constant("a"), frames=4), Fifo(), Output(path=Path(path)))
    assert problem in str(caught.value) and "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]


def test_what_the_video_begins_with_is_not_replaced(tmp_path: Path) -> None:
    path = foreign_file(tmp_path)
    request = Request(prompts=PromptTimeline.constant("a"), frames=4, init=str(path))
    with pytest.raises(OutputError, match="it is read and would be replaced"):
        generate(Toy(), request, Fifo(), Output(path=path, overwrite=True))
    assert path.read_bytes() == b"holiday"


def foreign_file(folder: Path) -> Path:
    (folder / "a.mp4").write_bytes(b"holiday")
    return folder / "a.mp4"


def foreign_folder(folder: Path) -> Path:
    (folder / "frames").mkdir()
    (folder / "frames" / "thesis.doc").touch()
    return folder / "frames"


def foreign_frames(folder: Path) -> Path:
    (folder / "frames").mkdir()
    (folder / "frames" / "000000.png").touch()
    return folder / "frames"


def folder_named_like_a_file(folder: Path) -> Path:
    (folder / "a.mkv").mkdir()
    return folder / "a.mkv"


def file_named_like_a_folder(folder: Path) -> Path:
    (folder / "frames").touch()
    return folder / "frames"


def state_is_a_file(folder: Path) -> Path:
    (folder / "a.mp4.state").touch()
    return folder / "a.mp4"


def parent_is_a_file(folder: Path) -> Path:
    (folder / "b").touch()
    return folder / "b" / "a.mp4"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (foreign_file, "belongs to no longtake run; .*--overwrite"),
        (foreign_folder, r"holds other files \(thesis.doc\)"),
        (foreign_frames, "holds frames of no longtake run"),
        (folder_named_like_a_file, "is a folder, but its ending means a file"),
        (file_named_like_a_folder, "is a file, but its name means a folder"),
        (state_is_a_file, "must be a folder"),
        (parent_is_a_file, "is a file, not a folder"),
        (lambda folder: folder / "no" / "a.mp4", "no does not exist; create it"),
        (lambda folder: folder / "a.gif", "unknown ending '.gif'; use .*/a.mp4 .*/a.mkv .*/a/ "),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_line(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    path = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=message) as refused:
        check_output(path)
    assert "\n" not in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_overwrite_takes_a_foreign_file_but_never_a_folder_with_other_files(tmp_path: Path) -> None:
    assert check_output(foreign_file(tmp_path), overwrite=True).name == "mp4"
    with pytest.raises(OutputError, match="thesis"):
        check_output(foreign_folder(tmp_path), overwrite=True)


def test_missing_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(OutputError, match="no permission to write in"):
        check_output(tmp_path / "a.mp4")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder where even root can make no file")
def test_a_folder_where_no_file_can_be_made_is_refused() -> None:
    for path in ("/proc/a.mp4", "/proc/frames/"):
        with pytest.raises(OutputError, match=r"no file can be made in /proc \(.*\); choose another -o"):
            check_output(path)


def test_rates_are_exact_or_refused() -> None:
    assert [str(exact_rate(fps)) for fps in (8, 23.976, 24000 / 1001, 0.5)] == ["8", "2997/125", "24000/1001", "1/2"]
    for fps in (0.0, -1.0, 3.14159265, float("nan"), float("inf")):
        with pytest.raises(InputError, match="cannot be stored"):
            exact_rate(fps)


GOOD: dict[str, Any] = {
    "settings": {},
    "fps": 8.0,
    "total": 64,
    "size": (64, 64),
    "comment": "",
}


def target(path: Path, change: dict[str, Any]) -> Target:
    form = {name: value for name, value in change.items() if name not in GOOD}
    return make_target(Output(path=path, **form), **GOOD | {name: change[name] for name in change.keys() & GOOD.keys()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (64, 63)}, "even height and width, not 64x63"),
        ({"crf": 52}, "crf 52 is outside"),
        ({"scale": 0}, "scale 0 is below 1"),
        ({"segment": 0}, "segment 0 is outside"),
        ({"total": 0}, "0 frames is no video"),
        ({"fps": 0.0}, "fps 0.0 cannot be stored"),
    ],
)
def test_values_that_make_no_video_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(LongtakeError, match=message):
        target(tmp_path / "a.mp4", change)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        *(({"fps": fps}, "cannot be stored") for fps in (0.0, -8.0, float("inf"), float("nan"), 3.14159265)),
        ({"scale": 0}, "scale 0 is below 1"),
        ({"scale": 10**9}, "scale 1000000000 makes more of one pixel"),
        ({"crf": -1}, "crf -1 is outside"),
        ({"segment": 10_001}, "segment 10001 is outside"),
        ({"keep_states": -1}, "is no size"),
        ({"part": (4, 2)}, "--range 4:2 holds no frame; write the first frame and the one after the last"),
        ({"part": (4, 4)}, "--range 4:4 holds no frame"),
        ({"part": (-2, 4)}, "--range -2:4 begins before frame 0; write the first frame and the one after the last"),
    ],
)
def test_an_output_that_no_video_can_have_is_refused_when_it_is_made(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Output(**given)


def test_odd_sizes_are_fine_without_colour_subsampling(tmp_path: Path) -> None:
    target(tmp_path / "a.mkv", {"size": (63, 63)})
    target(tmp_path / "a.mp4", {"size": (63, 63), "scale": 2})


def test_a_quality_that_has_no_effect_is_no_setting(tmp_path: Path) -> None:
    targets = [target(tmp_path / "a.mkv", {"crf": crf}) for crf in (18, 30)]
    assert targets[0].settings == targets[1].settings


def test_a_new_output_is_new(tmp_path: Path) -> None:
    assert earlier_run(target(tmp_path / "a.mp4", {})) is None


def test_checks_load_nothing_heavy() -> None:
    code = "import sys, longtake.video.output; print({'torch', 'av', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_path_may_be_a_text_and_a_text_a_path(tmp_path: Path) -> None:
    given: dict[str, Any] = {"path": f"{tmp_path}/a.mp4", "audio": tmp_path / "a.wav"}
    assert Output(**given) == Output(path=tmp_path / "a.mp4", audio=f"{tmp_path}/a.wav")
