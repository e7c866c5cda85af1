"""`longtake evaluate fvd`, end to end on small worlds."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from longtake.data.footage import Footage, Recording
from longtake.data.sprites import random_world
from longtake.metrics.clips import DrawnSet
from longtake.metrics.controls import frozen
from longtake.metrics.fvd import SetScores
from longtake.metrics.of_sets import Fvd, _fvd_label

NUM_VIDEOS = 8


class MeanColour(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=[2, 3, 4])


def write_set(name: str, seeds: range, change: Callable[[np.ndarray], np.ndarray] = lambda clip: clip) -> None:
    for seed in seeds:
        folder = Path(name) / str(seed - seeds.start)
        folder.mkdir(parents=True)
        for frame, pixels in enumerate(change(random_world(seed, training_only=False).frames(0, 16))):
            Image.fromarray(pixels).save(folder / f"{frame:06d}.png")


def scores(longtake: Callable, *arguments: str) -> dict:
    ran = longtake("evaluate", "fvd", "--json", *arguments)
    assert ran.status == 0, ran.err
    return json.loads(ran.out)


def test_frozen_videos_are_further_away_than_other_real_ones(longtake: Callable):
    write_set("real", range(NUM_VIDEOS))
    write_set("other", range(100, 100 + NUM_VIDEOS))
    write_set("frozen", range(100, 100 + NUM_VIDEOS), lambda clip: frozen(clip, 0))
    same = scores(longtake, "--real", "real", "--fake", "real")
    other = scores(longtake, "--real", "real", "--fake", "other")
    still = scores(longtake, "--real", "real", "--fake", "frozen")
    assert same["fvd"] < 1e-3 * other["fvd"] and other["fvd"] < still["fvd"]
    assert other["kvd"] < still["kvd"]
    assert 1 <= other["inception_score"] <= NUM_VIDEOS
    assert (other["clips_real"], other["features"], other["width"]) == (NUM_VIDEOS, 384, 64)
    assert other["labels"]["fvd"].startswith("not comparable with published FVD: a stand-in")
    # Few clips: equal worlds seem far apart, and three figures say so.
    assert other["fvd_floor"] > 0.3 * other["fvd"] and other["fvd_shrunk"] < 0.7 * other["fvd"]
    assert any("too few" in warning for warning in other["warnings"])
    shown = longtake("evaluate", "fvd", "--real", "real", "--fake", "other")
    assert "too few" in shown.err
    numbers = [line for line in shown.out.splitlines() if line.startswith(("fvd  ", "kvd  ", "inception score  "))]
    told = [line.partition("(not comparable with published ")[2] for line in numbers]
    assert told == ["FVD)", "FVD)", "scores)"]
    assert shown.out.splitlines()[-2].endswith("good for ranking videos of one kind")


def test_a_single_clip_is_named_by_its_set(longtake: Callable):
    write_set("one", range(1))
    write_set("two", range(2))
    for real, fake, named in (("one", "two", "the real videos"), ("two", "one", "the videos to score")):
        ran = longtake("evaluate", "fvd", "--real", real, "--fake", fake, "--frames", "16")
        assert ran.status == 2
        assert f"{named} give one clip of 16 frames alone (0), and a distance takes two of each set" in ran.err


def test_a_network_of_the_user(longtake: Callable):
    write_set("real", range(4))
    with pytest.warns(DeprecationWarning):
        torch.jit.save(torch.jit.script(MeanColour()), "net.pt")
    found = scores(longtake, "--real", "real", "--fake", "real", "--network", "net.pt")
    assert (found["network"], found["features"], found["inception_score"]) == ("net.pt", 3, None)
    assert found["network_sha256"] and found["fvd"] == pytest.approx(0, abs=1e-6)
    assert "takes 2,048 clips of each, not 4 and 4" in found["labels"]["fvd"]
    assert found["warnings"] == []
    several = scores(longtake, "--real", "real", "--fake", "real", "--network", "net.pt", "--frames", "4")
    assert several["clips_real"] == 16 and "the 16 real clips are of 4 videos" in several["warnings"][0]
    write_set("one", range(1))
    single = scores(longtake, "--real", "real", "--fake", "one", "--network", "net.pt", "--frames", "4")
    assert "the 4 scored clips are of 1 video, and" in single["warnings"][1]


MISTAKES = [
    (("--real", "nothing", "--fake", "empty"), "there is no folder nothing"),
    (("--real", "empty", "--fake", "empty"), "no videos: looked for videos"),
    (("--real", "bad", "--fake", "bad"), "all 1 were skipped: a.mp4 ("),
    (("--real", "bad", "--fake", "bad", "--frames", "0"), "--frames 0 is too small"),
    (("--real", "bad", "--fake", "bad", "--frames", "8"), "reads clips of 16 frames or more"),
    (("--real", "bad", "--fake", "bad", "--clips", "1"), "--clips 1 is too small"),
    (("--real", "bad", "--fake", "bad", "--network", "none.pt"), "there is no file none.pt"),
    (("--real", "bad", "--fake", "bad", "--network", "bad/a.mp4"), "cannot be loaded as TorchScript"),
    (("--real", "bad", "--fake", "bad", "--device", "cpu"), "--device has no effect"),
    (("--real", "bad"), "--fake DIR is missing; give the videos"),
]


@pytest.mark.parametrize(("arguments", "problem"), MISTAKES, ids=[row[1] for row in MISTAKES])
def test_a_mistake_is_one_line(longtake: Callable, arguments: tuple[str, ...], problem: str):
    Path("empty").mkdir()
    Path("bad").mkdir()
    Path("bad/a.mp4").write_text("text")
    ran = longtake("evaluate", "fvd", *arguments)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert problem in ran.err


def comparable(**changed: object) -> str:
    """The label of the distance as a protocol would have it, but for what is changed."""
    clips, videos, frames = (int(str(changed.get(name, value))) for name, value in PROTOCOL.items())
    recording = Recording(name="x", num_frames=128, fps=None, read=lambda start, stop: ())
    footage = Footage(recordings=(recording,) * videos, size=None)
    starts = [[0]] * (videos - 1) + [[0] * (clips - videos + 1)]
    drawn = DrawnSet(footage=footage, num_frames=frames, starts=starts)
    size = int(str(changed.get("size", 256)))
    scores = SetScores(
        fvd=1, fvd_floor=1, fvd_shrunk=None, kvd=1, kvd_floor=1, inception_score=1, inception_score_deviation=1,
        features=400, clips_real=clips, clips_fake=clips, width=size, height=size,
    )  # fmt: skip
    return _fvd_label(Fvd(real="x", fake=Path("y"), frames=frames, network=Path("i3d.pt")), drawn, drawn, scores)


PROTOCOL = {"clips": 2048, "videos": 2048, "frames": 16}


def test_comparable_looks_at_clips_videos_frames_and_size():
    assert (
        comparable() == "comparable with published FVD only if i3d.pt is the published I3D, and the data are the same"
    )
    assert "2,048 clips of each, not 2,047" in comparable(clips=2047, videos=2047)
    assert "one clip of a video; here 2,000" in comparable(videos=2000)
    assert "16 or 128 frames, not 20" in comparable(frames=20)
    assert "not 64x64" in comparable(size=64)


def pictures(folder: str, seed: int, pattern: str = "{}.png", frames: int = 16) -> None:
    Path(folder).mkdir(parents=True)
    for number, frame in enumerate(random_world(seed).frames(0, frames)):
        Image.fromarray(frame).save(Path(folder) / pattern.format(number))


def test_every_layout_that_train_reads_is_scored(longtake: Callable):
    write_set("made", range(50, 53))
    for split, seeds in (("train", (0, 1)), ("test", (2, 3))):
        for seed in seeds:
            pictures(f"clips/{split}/v{seed}/v{seed}_1", seed, "v_frames_{}.jpg")
            pictures(f"authors/{split}/v{seed}", seed)
    counts = {}
    for layout, root, split in (("sky", "clips", "test"), ("sky", "authors", "train"), ("sky", "authors", "test")):
        found = scores(longtake, "--real", root, "--fake", "made", "--layout", layout, "--split", split)
        counts[root, split] = found["clips_real"], round(found["fvd"], 3)
    assert {count for count, _ in counts.values()} == {2}
    assert counts["authors", "train"] != counts["authors", "test"]
    assert scores(longtake, "--real", "sprites", "--worlds", "3", "--fake", "made")["clips_real"] == 24
    ran = longtake("evaluate", "fvd", "--real", "authors", "--fake", "made", "--split", "test")
    assert ran.status == 2 and "split has no effect on the layout videos" in ran.err
