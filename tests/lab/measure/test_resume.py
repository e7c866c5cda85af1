"""A folder and a sampler, killed in the middle and made to the end."""

import json
from pathlib import Path
from unittest import mock

import pytest

from lab.measure import resume
from lab.measure.resume import Settings, killed_and_resumed, measure
from longtake.errors import InputError
from longtake.model import VideoModel
from longtake.sampler import State
from longtake.samplers.chunked import loop

from ...models.tiny import tiny_latte

FRAMES = 64


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    (tmp_path / "folders" / "other").mkdir(parents=True)
    tiny_latte(tmp_path).rename(tmp_path / "folders" / "tiny")
    return tmp_path / "folders"


def test_pairs_are_run_once_and_those_that_a_plan_refuses_say_why(folders: Path, tmp_path: Path) -> None:
    samplers, output = ("autoregressive", "chunked"), tmp_path / "out.jsonl"
    chosen = Settings(folders=folders, samplers=samplers, frames=FRAMES, output=output)
    first = measure(chosen)
    assert "| tiny | refused | same bytes |" in first and "4 pairs: 1 the same bytes, 3 refused, 0 failed" in first
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(line["folder"], line["sampler"], line["promised"]) for line in lines] == [
        ("other", "autoregressive", False),
        ("other", "chunked", False),
        ("tiny", "autoregressive", False),
        ("tiny", "chunked", True),
    ]
    assert "needs Continuation" in lines[2]["why"] and FRAMES // 2 <= lines[3]["killed_at"] < FRAMES
    with mock.patch.object(resume, "killed_and_resumed", side_effect=AssertionError("it is run again")):
        assert measure(chosen) == first


def test_a_run_that_goes_on_otherwise_fails_with_what_differs(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def restored_otherwise(state: State, model: VideoModel) -> loop.Progress:
        monkeypatch.setattr(loop.Setting, "draw_window", lambda *names: -draw(*names))
        return restored(state, model)

    restored, draw = loop.Progress.restored, loop.Setting.draw_window
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(loop.Progress, "restored", restored_otherwise)
    pair = killed_and_resumed(folders / "tiny", "chunked", FRAMES, tmp_path / "scratch")
    assert pair.verdict == "failed" and pair.why == "32 frames differ, from 32 on"


def test_a_traceback_fails(folders: Path, tmp_path: Path) -> None:
    with mock.patch.object(loop.Progress, "restored", side_effect=ZeroDivisionError):
        pair = killed_and_resumed(folders / "tiny", "chunked", FRAMES, tmp_path)
    assert pair.why.endswith("ZeroDivisionError")
    assert pair.verdict == "failed" and pair.why.startswith("again: status 1: Traceback")


def test_what_cannot_be_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        measure(Settings(folders=tmp_path / "none"))
    with pytest.raises(InputError, match="did you mean 'fifo'"):
        measure(Settings(folders=tmp_path, samplers=("fif",)))
    with pytest.raises(InputError, match="take 64 or more"):
        measure(Settings(folders=tmp_path, frames=63))
    (tmp_path / "no-model").mkdir()
    with pytest.raises(InputError, match="holds no model folder"):
        measure(Settings(folders=tmp_path))
