"""What a command reads is never replaced by what it writes."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="it comes with the extra report")


@pytest.mark.parametrize(
    "output",
    ["one.mkv", "../here/one.mkv", "link.mkv", "one.json", "one.vtt", "one.mkv.state/state.json", "f/000000.png"],
)
def test_a_page_never_takes_the_place_of_what_it_shows(longtake: Callable, output: str):
    Path("one.mkv").write_bytes(b"a video")
    Path("link.mkv").symlink_to("one.mkv")
    Path("f").mkdir()
    Path("f/000000.png").write_bytes(b"a picture")
    Path("one.mkv.state").mkdir()
    for name in ("one.json", "one.mkv.state/state.json"):
        Path(name).write_text("{}")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    ran = longtake("report", "one.mkv", "f", "-o", output, "--overwrite")
    assert ran.status == 2 and ran.err.count("\n") == 1
    assert re.search(r"(is|belongs to) .*read and would be replaced; choose another -o", ran.err), ran.err
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_a_comparison_never_takes_the_place_of_its_prompts(longtake: Callable):
    here = Path("made")
    here.mkdir()
    for name in ("results.json", "report.html", "fifo.jsonl"):
        (here / name).write_text("a red car\n")
        ran = longtake("compare", "--model", "toy", "--prompts", str(here / name), "-o", "made", "--overwrite")
        assert ran.status == 2 and f"{name}: it is read and would be replaced" in ran.err, ran.err
        assert (here / name).read_text() == "a red car\n"
