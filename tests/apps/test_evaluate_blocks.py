"""`longtake evaluate blocks`, end to end on small worlds."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from longtake.data.sprites import random_world
from longtake.metrics.controls import blurred


class MeanPicture(nn.Module):
    def forward(self, pictures: Tensor, return_features: bool) -> Tensor:
        assert return_features
        return pictures.float().mean(dim=[2, 3])


def write_set(name: str, seeds: range, spoilt: int) -> None:
    """Videos of 32 frames, of which the last `spoilt` are blurred."""
    for seed in seeds:
        folder = Path(name) / str(seed)
        folder.mkdir(parents=True)
        frames = random_world(seed, training_only=False).frames(0, 32)
        frames[32 - spoilt :] = blurred(frames, seed)[32 - spoilt :]
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(folder / f"{number:06d}.png")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_curve_rises_where_videos_get_worse(longtake: Callable):
    write_set("real", range(4), 0)
    write_set("fake", range(10, 14), 16)
    Path("real/empty.mp4").touch()
    asked = ("evaluate", "blocks", "--real", "real", "--fake", "fake", "--parts", "2")
    ran = longtake(*asked, "--json")
    assert ran.status == 0, ran.err
    scores = json.loads(ran.out)
    assert scores["videos_real"] == 4 and scores["warnings"][0].startswith("skipped: empty.mp4: ")
    assert "skipped: empty.mp4" in ran.err and "too few for the features" in ran.err
    assert scores["block_fvd_shrunk"] < scores["block_fvd"] and scores["block_fvd_floor"] > 0
    assert scores["fvd"][0] < scores["fvd"][1] and scores["fid"][0] < scores["fid"][1]
    assert scores["block_fvd"] == sum(scores["fvd"]) / 2 and scores["clips_per_part"] == 4
    assert scores["network"].startswith("stand-in") and scores["picture_network"].startswith("stand-in")
    torch.jit.script(MeanPicture()).save("pictures.pt")
    shown = longtake(*asked, "--picture-network", "pictures.pt")
    assert shown.status == 0 and "pictures.pt" in shown.out and "not comparable" in shown.out.splitlines()[-1]


def test_mistakes_are_one_line(longtake: Callable):
    write_set("real", range(1), 0)
    for more, reason in (
        (("--parts", "3"), "use fewer parts"),
        (("--frames", "8"), "16 frames or more"),
        (("--frames", "64"), "32 of the 64 frames needed"),
        (("--device", "cpu"), "no effect"),
        (("--network", "none.pt"), "there is no file"),
    ):
        ran = longtake("evaluate", "blocks", "--real", "real", "--fake", "real", *more)
        assert ran.status == 2 and reason in ran.err and len(ran.err.splitlines()) == 1, ran.err
