"""`longtake evaluate fvd`, end to end on small worlds."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from longtake.data.sprites import random_world
from longtake.metrics.controls import frozen

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
    assert (other["clips_real"], other["features"], other["psnr"]) == (NUM_VIDEOS, 384, None)
    assert other["label"].startswith("not comparable with published FVD: a stand-in")
    assert any("too few" in warning for warning in other["warnings"])
    shown = longtake("evaluate", "fvd", "--real", "real", "--fake", "other")
    assert "too few" in shown.err
    numbers = [line for line in shown.out.splitlines() if line.startswith(("fvd", "kvd", "inception score"))]
    assert shown.out.splitlines()[-1].endswith("good for ranking videos of one kind")
    assert len(numbers) == 3 and all("not comparable with published FVD" in line for line in numbers)


def test_reconstructions_are_compared_with_their_originals(longtake: Callable):
    write_set("real", range(3))
    write_set("again", range(3), lambda clip: clip // 2 * 2 + 1)
    found = scores(longtake, "--real", "real", "--fake", "again", "--paired")
    # The last bit is 1 for all: half of the pixels are off by one.
    assert found["psnr"] == pytest.approx(20 * np.log10(255) + 10 * np.log10(2), abs=0.5)


def test_a_network_of_the_user(longtake: Callable):
    write_set("real", range(4))
    with pytest.warns(DeprecationWarning):
        torch.jit.save(torch.jit.script(MeanColour()), "net.pt")
    found = scores(longtake, "--real", "real", "--fake", "real", "--network", "net.pt")
    assert (found["network"], found["features"], found["inception_score"]) == ("net.pt", 3, None)
    assert found["network_sha256"] and found["fvd"] == pytest.approx(0, abs=1e-6)
    assert "takes 2,048 clips of each, not 4 and 4" in found["label"]
    assert found["warnings"] == []
    several = scores(longtake, "--real", "real", "--fake", "real", "--network", "net.pt", "--frames", "4")
    assert several["clips_real"] == 16 and "the 16 real clips are of 4 videos" in several["warnings"][0]


MISTAKES = [
    (("--real", "nothing", "--fake", "empty"), "there is no nothing"),
    (("--real", "empty", "--fake", "empty"), "empty holds no videos"),
    (("--real", "bad", "--fake", "bad"), "cannot read bad/a.mp4 as a video"),
    (("--real", "bad", "--fake", "bad", "--frames", "0"), "--frames 0 is too small"),
    (("--real", "bad", "--fake", "bad", "--frames", "8"), "reads clips of 16 frames or more"),
    (("--real", "bad", "--fake", "bad", "--clips", "1"), "--clips 1 is too small"),
    (("--real", "bad", "--fake", "bad", "--network", "none.pt"), "there is no file none.pt"),
    (("--real", "bad", "--fake", "bad", "--network", "bad/a.mp4"), "cannot be loaded as TorchScript"),
    (("--real", "bad", "--fake", "bad", "--device", "cpu"), "--device has no effect"),
    (("--real", "bad"), "Missing"),
]


@pytest.mark.parametrize(("arguments", "problem"), MISTAKES, ids=[row[1] for row in MISTAKES])
def test_a_mistake_is_one_line(longtake: Callable, arguments: tuple[str, ...], problem: str):
    Path("empty").mkdir()
    Path("bad").mkdir()
    Path("bad/a.mp4").write_text("text")
    ran = longtake("evaluate", "fvd", *arguments)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert problem in ran.err
