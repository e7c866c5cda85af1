"""`longtake train embedded`: what it refuses, before anything heavy is loaded."""

from collections.abc import Callable
from pathlib import Path

import pytest

MISTAKES = [
    ((), "what to train is missing; write all, or the name of a stage"),
    (("strecthes",), "did you mean 'stretches'?"),
    (("all", "--minutes", "0"), "no time to train"),
    (("vae", "--runs", "notes.txt"), "a folder is meant"),
    (("vae", "--runs", "no/runs"), "does not exist; create it first"),
    (("vae", "--device", "tpu"), "--device"),
]


@pytest.mark.parametrize(("arguments", "problem"), MISTAKES, ids=[" ".join(row[0]) for row in MISTAKES])
def test_a_mistake_is_one_line(longtake: Callable, arguments: tuple[str, ...], problem: str) -> None:
    Path("notes.txt").write_text("mine")
    ran = longtake("train", "embedded", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert problem in ran.err and ran.err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["notes.txt"]


def test_neither_mistakes_nor_help_load_torch(tmp_path: Path, light: Callable) -> None:
    lines = [["train", "embedded", *arguments] for arguments, _ in MISTAKES] + [["train", "embedded", "--help"]]
    (tmp_path / "notes.txt").write_text("mine")
    light(lines, tmp_path, {"torch", "diffusers", "accelerate", "av"})


def test_a_stage_without_what_comes_before_it_is_one_line(longtake: Callable) -> None:
    for runs, said in (("runs", "runs"), ("my runs", "'my runs'")):
        ran = longtake("train", "embedded", "decoder", "--runs", runs)
        assert ran.status == 2
        told = f"{runs}/vae/final does not exist; vae must come first: longtake train embedded vae --runs {said}\n"
        assert ran.err.endswith(told)
        assert not any(Path().iterdir())
    Path("runs/vae/final").mkdir(parents=True)
    ran = longtake("train", "embedded", "mtd", "--runs", "runs")
    assert ran.status == 2 and "longtake train embedded images --runs runs" in ran.err
    assert [path.name for path in Path("runs").iterdir()] == ["vae"]
