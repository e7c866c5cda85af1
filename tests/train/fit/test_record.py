"""What training has noted down, garbled: one line that says which file and what to do, whatever lies there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longtake.errors import CheckpointError
from longtake.train.fit.job import begin_record
from longtake.train.fit.latents import check_made_of
from longtake.train.fit.runs import Runs, run_stages

READERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "stages.json": (lambda folder: run_stages({}, Runs(folder=folder), None), "delete it to go through all stages"),
    "vae/final/training.json": (lambda folder: Runs(folder=folder).final("vae"), "delete it: it only says how far"),
    "run.json": (lambda folder: begin_record(folder, "vae", {}, {}), "delete it to let the run go on"),
    "made_of.json": (lambda folder: check_made_of(folder, {"data": 1}), "whose latents are then made again"),
}


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": ', b"\xff\xfe\x00PK", b"3", b"null", b"[" * 100_000, None])
@pytest.mark.parametrize("name", READERS)
def test_a_garbled_note_is_one_line(name: str, content: bytes | None, tmp_path: Path) -> None:
    read, advice = READERS[name]
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=advice) as caught:
        read(tmp_path)
    assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("vae/final/training.json", '{"step": -1, "steps": 8}', "step is -1, which a run of 8 steps does not have"),
        ("vae/final/training.json", '{"step": 9, "steps": 8}', "step is 9, which a run of 8 steps does not have"),
        ("vae/final/training.json", '{"step": 0, "steps": -1}', "step is 0, which a run of -1 steps does not have"),
        ("stages.json", '{"seconds": -3}', "seconds is -3, which cannot have passed"),
        ("stages.json", '{"seconds": 1e999}', "seconds"),
        ("stages.json", '{"seconds": NaN}', "seconds"),
    ],
)
def test_numbers_that_cannot_be_are_one_line(name: str, content: str, reason: str, tmp_path: Path) -> None:
    read, advice = READERS[name]
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=f"{reason}.*; {advice}") as caught:
        read(tmp_path)
    assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ['{"done": "vae"}', '{"done": [3]}', '{"seconds": "x"}', '{"step": 1}'])
def test_stages_of_another_form_are_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "stages.json").write_text(content)
    with pytest.raises(CheckpointError, match="stages.json: .*; delete it"):
        run_stages({}, Runs(folder=tmp_path), None)
