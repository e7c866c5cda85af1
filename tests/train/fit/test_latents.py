"""Latents on the disk, where that fails."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from longtake.errors import OutputError
from longtake.train.fit.latents import Encode, check_made_of, read_latents, write_latents


def encoded() -> dict[str, Tensor]:
    return {"clips": torch.ones(2, 3)}


def test_a_folder_that_goes_on_the_way_is_one_line_and_the_same_call_makes_it_again(tmp_path: Path) -> None:
    folder = tmp_path / "latents"

    def gone() -> dict[str, Tensor]:
        shutil.rmtree(folder)
        return encoded()

    said = rf"^cannot write b\.safetensors to {folder} \(that folder is gone\); the same command begins it again$"
    with pytest.raises(OutputError, match=said):
        write_latents(folder, [("a", encoded), ("b", gone)])
    assert write_latents(folder, [("a", encoded), ("b", encoded)])
    assert read_latents(folder, ["clips"])["clips"].shape == (4, 3)


def test_a_disk_that_is_full_is_one_line_and_what_is_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.train.fit import writing

    written = writing.save_file

    def full(tensors: dict[str, Tensor], path: Path) -> None:
        if path.stem == "b":
            raise OSError(28, "No space left on device")
        written(tensors, path)

    monkeypatch.setattr(writing, "save_file", full)
    files: list[tuple[str, Encode]] = [("a", encoded), ("b", encoded)]
    with pytest.raises(OutputError, match=r"^cannot write b\.safetensors to .*No space left.*make room[^\n]*$"):
        write_latents(tmp_path, files)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_what_latents_are_made_of_is_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_made_of(tmp_path, {"size": 64})

    def killed(point: str) -> None:
        raise KeyboardInterrupt(point)

    monkeypatch.setattr("longtake.video.durable.reach", killed)
    with pytest.raises(KeyboardInterrupt):
        check_made_of(tmp_path, {"size": 64})
    assert (tmp_path / "made_of.json").read_text() == '{"size": 64}'
