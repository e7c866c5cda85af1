"""Every stored piece of a run, damaged in every way: the same video all the same, or one line that says what to do.

`pytest -m slow tests/test_garbled_state.py -s` prints how many tries there were.
"""

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from longtake._generate import generate
from longtake.errors import CheckpointError, LongtakeError
from longtake.models.toy import Toy
from longtake.request import PromptTimeline, Request
from longtake.sampler import Sampler
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.fifo.plan import Fifo
from longtake.samplers.nuwa_xl.plan import NuwaXl
from longtake.train.fit.loop import fit
from longtake.video.output import Output

from .train.fit.test_loop import SETTINGS, LineTask

Damage = Callable[[Path, random.Random], None]


def flipped(file: Path, chance: random.Random) -> None:
    content = bytearray(file.read_bytes() or b"x")
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def truncated(file: Path, chance: random.Random) -> None:
    os.truncate(file, chance.randrange(max(1, file.stat().st_size)))


def emptied(file: Path, chance: random.Random) -> None:
    os.truncate(file, 0)


def nested(file: Path, chance: random.Random) -> None:
    file.write_text(chance.choice('["{') * 200_000)


def of_another_type(file: Path, chance: random.Random) -> None:
    file.write_bytes(chance.choice([b"[1]", b"null", b'{"layout": [], "record": 3}', b"\xff\xfe", b"PK\x03\x04" * 9]))


def by_a_folder(file: Path, chance: random.Random) -> None:
    file.unlink()
    file.mkdir()


def removed(file: Path, chance: random.Random) -> None:
    file.unlink()


DAMAGES: tuple[Damage, ...] = (
    flipped,
    flipped,
    truncated,
    emptied,
    nested,
    of_another_type,
    by_a_folder,
    removed,
)
TRIES: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def counted() -> Iterator[None]:
    yield
    print(f"\n{sum(TRIES.values())} tries: " + ", ".join(f"{count} {how}" for how, count in sorted(TRIES.items())))


class Interrupted(BaseException):
    pass


def command(path: Path, sampler: Sampler, stop_at: int | None = None, overwrite: bool = False) -> None:
    def progress(frames: int, warnings: tuple[str, ...], doing: str) -> None:
        if stop_at is not None and frames >= stop_at:
            raise Interrupted

    prompts = PromptTimeline((0, 30), ("a red car", "a blue boat"))
    steps = None if sampler.name == "fifo" else 2
    request = Request(prompts=prompts, frames=70, seed=4, steps=steps)
    generate(Toy(), request, sampler, Output(path=path, overwrite=overwrite), progress=progress)


def output(path: Path) -> dict[str, bytes]:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return {file.name: file.read_bytes() for file in files}


def attempted(action: Callable[[], object]) -> bool:
    """Do something; return whether it succeeded, and fail where it was refused in other than one line of advice."""
    try:
        action()
    except LongtakeError as refusal:
        text = str(refusal)
        assert "\n" not in text and len(text) < 600, text
        assert any(word in text for word in ("--overwrite", "another", "move", "remove", "free", "delete")), text
        TRIES["refused"] += 1
        return False
    TRIES["made whole"] += 1
    return True


def pieces(folder: Path) -> list[str]:
    """Return the files of a run, of many of a kind some."""
    files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    frames = [name for name in files if name.endswith(".png")]
    nodes = [name for name in files if "/nodes/" in name]
    return [name for name in files if name not in (*frames, *nodes)] + frames[:: max(1, len(frames) // 2)] + nodes[:2]


@pytest.mark.slow
@pytest.mark.parametrize("unfinished", [True, False], ids=["unfinished", "finished"])
@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("a.mp4", Chunked(overlap=2)),
        ("a.mkv", Fifo(partitions=2)),
        ("frames", Chunked(overlap=2)),
        ("a.mkv", NuwaXl()),
    ],
    ids=["mp4", "mkv", "png", "nuwa-xl"],
)
def test_damage_is_noticed_or_made_good(name: str, sampler: Sampler, unfinished: bool, tmp_path: Path) -> None:
    whole, begun = tmp_path / "whole", tmp_path / "begun"
    for folder in (whole, begun):
        folder.mkdir()
    command(whole / name, sampler)
    if unfinished:
        with pytest.raises(Interrupted):
            command(begun / name, sampler, stop_at=40)
    else:
        shutil.copytree(whole, begun, dirs_exist_ok=True)
    truth, chance = output(whole / name), random.Random(f"7 {name} {sampler.name} {unfinished}")
    tried, wrong = tmp_path / "tried", []
    for piece in pieces(begun):
        for damage in DAMAGES:
            shutil.copytree(begun, tried)
            damage(tried / piece, chance)
            how = f"{piece} {damage.__name__}"
            try:
                if attempted(lambda: command(tried / name, sampler)) and output(tried / name) != truth:
                    wrong.append(f"{how}: another video")
            except Exception as error:
                wrong.append(f"{how}: {type(error).__name__} {error}")
            shutil.rmtree(tried)
    assert wrong == []


@pytest.mark.slow
def test_a_damaged_checkpoint_of_a_training_is_noticed(tmp_path: Path) -> None:
    def weights(folder: Path) -> Tensor:
        task = LineTask()
        fit(task, SETTINGS, folder)
        return task.line.weight.detach().clone()

    truth, begun, tried = weights(tmp_path / "whole"), tmp_path / "begun", tmp_path / "tried"
    fit(LineTask(), SETTINGS, begun, stop=lambda step: step == 3)
    chance = random.Random(7)
    for piece in sorted(str(file.relative_to(begun)) for file in (begun / "checkpoint").iterdir()):
        for damage in DAMAGES:
            shutil.copytree(begun, tried)
            damage(tried / piece, chance)
            try:
                made = weights(tried)
            except CheckpointError as refusal:
                assert "\n" not in str(refusal), refusal
                TRIES["refused"] += 1
            else:
                TRIES["made whole"] += 1
                assert torch.equal(made, truth), f"{piece} {damage.__name__}"
            shutil.rmtree(tried)
