"""Finished videos as captioned clips, read back by the library that people read such files with."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longtake import Output, PromptTimeline, Request, generate, load_model
from longtake.apps.shards import shards_command
from longtake.errors import InputError, OutputError
from longtake.journal import LAYOUT
from longtake.metrics.consistency import consistency
from longtake.metrics.of_video import Drift
from longtake.samplers.chunked.plan import Chunked
from longtake.video.read import read_frames

STORY = PromptTimeline((0, 24), ("a", "b"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of two prompts, one of one prompt in a folder, one that is not complete, and a stranger's JSON."""
    folder, model = tmp_path_factory.mktemp("videos"), load_model("toy")
    (folder / "one.v2").mkdir()
    generate(model, Request(prompts=STORY, frames=40), Chunked(), Output(path=folder / "two.mp4", scale=2))
    single = Request(prompts="c", frames=20, seed=4)
    generate(model, single, Chunked(), Output(path=folder / "one.v2/clip.mp4", scale=2, segment=8))
    generate(model, single, Chunked(), Output(path=folder / "cut.mp4"))
    changed(folder / "cut.json", lambda report: report.update(complete=False))
    # As if the toy's frames had enough pixels to be measured.
    changed(folder / "one.v2/clip.json", lambda report: report["output"].update(scale=1))
    (folder / "other.json").write_text('{"longtake": "of another program"}')
    for number, output in enumerate(([], {}, {"file": ""}, {"file": "../two.mp4"}, {"file": 3})):
        (folder / f"odd-{number}.json").write_text(json.dumps({"longtake": LAYOUT, "complete": True, "output": output}))
    return folder


def changed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    report = json.loads(path.read_text())
    change(report)
    path.write_text(json.dumps(report))


def shards(folder: Path, output: Path, *more: str) -> list[Path]:
    assert shards_command([str(folder), "-o", str(output), "--licence", "Apache-2.0", *more]) == 0
    return sorted(output.glob("shard-*.tar"))


def test_clips_come_back_through_webdataset_with_what_is_known_of_them(videos: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    paths = [str(path) for path in shards(videos, tmp_path / "shards")]
    samples = list(webdataset.WebDataset(paths, shardshuffle=False).decode())
    told = [sample["json"] for sample in samples]
    assert [(one["prompt"], one["start"], one["frames"]) for one in told] == [("c", 0, 20), ("a", 0, 24), ("b", 24, 16)]
    assert {one["licence"] for one in told} == {"Apache-2.0"} and told[0]["seed"] == 4
    assert samples[0]["mp4"] == (videos / "one.v2/clip.mp4").read_bytes(), "a whole video is not encoded again"
    assert told[0]["figures"] == asdict(consistency(read_frames(videos / "one.v2/clip.mp4")))
    for sample, one in zip(samples[1:], told[1:], strict=True):
        (tmp_path / "back.mp4").write_bytes(sample["mp4"])
        back = np.concatenate(list(read_frames(tmp_path / "back.mp4", scale=2))).astype(int)
        stop = one["start"] + one["frames"]
        there = np.concatenate(list(read_frames(videos / "two.mp4", one["start"], stop, scale=2)))
        assert back.shape == there.shape and abs(back - there).mean() < 3
        assert (one["height"], one["width"], one["fps"]) == (16, 16, 8)


def test_frames_come_back_as_they_are(videos: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    paths = shards(videos, tmp_path / "shards", "--content", "frames", "--clip-frames", "16", "--shard-bytes", "5000")
    assert len(paths) > 1, "a shard ends where it is large enough"
    samples = list(webdataset.WebDataset(list(map(str, paths)), shardshuffle=False).decode("rgb8"))
    starts = [(one["json"]["prompt"], one["json"]["start"]) for one in samples]
    assert starts == [("c", 0), ("a", 0), ("b", 24)], "what is left over is left out"
    there = np.concatenate(list(read_frames(videos / "two.mp4", 24, 40, scale=2)))
    back = np.stack([samples[2][f"{number:06d}.png"] for number in range(16)])
    assert np.array_equal(back, there)


def test_flags_say_what_figures_show() -> None:
    still = np.broadcast_to(np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8), (40, 32, 32, 3))
    moving = np.random.default_rng(1).integers(0, 256, (128, 32, 32, 3)).astype(np.uint8)
    fading = (moving * np.linspace(1, 0.2, 128)[:, None, None, None]).astype(np.uint8)

    def flags(frames: np.ndarray) -> set[str]:
        return set(Drift.flags(asdict(consistency([frames]))))

    assert flags(still) == {"longest_freeze"} and flags(moving) == set()
    assert flags(fading) == {"sharpness_ratio", "contrast_ratio", "colour_drift"}


def test_nothing_is_replaced_and_no_licence_is_guessed(videos: Path, tmp_path: Path) -> None:
    shards(videos, tmp_path / "shards")
    with pytest.raises(OutputError, match="--overwrite its shards"):
        shards(videos, tmp_path / "shards")
    before = (tmp_path / "shards/shard-000000.tar").read_bytes()
    shards(videos, tmp_path / "shards", "--overwrite")
    assert (tmp_path / "shards/shard-000000.tar").read_bytes() == before
    with pytest.raises(InputError, match="--licence"):
        shards_command([str(videos), "-o", str(tmp_path / "more")])
    with pytest.raises(InputError, match="no finished video"):
        shards(tmp_path, tmp_path / "more")
