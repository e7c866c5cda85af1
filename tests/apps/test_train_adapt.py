"""`longtake train adapt`, from videos with captions to a video by a model with the LoRA."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from longtake.models import model_spec
from tests.models.tiny import TINY

from .test_train_nuwa import episodes

MISTAKES = [
    ((), "what to train on is missing"),
    (("nowhere",), "holds no EPISODE/captions.jsonl"),
    (("sprites", "--base", "sprite"), "did you mean 'sprites'?"),
    (("sprites", "--base", "pvdm-sprites"), "takes no noise level a frame"),
    (("sprites", "--rank", "0"), "use 1 or more"),
    (("sprites", "--recipe", "levels", "--guidance", "3"), "has no effect on the recipe levels"),
    (("sprites", "--guidance", "1"), "nothing to learn"),
    (("episodes", "--worlds", "3"), "--worlds has no effect"),
    (("sprites", "--drop-text", "2"), "is a share"),
]
SMALL = ["--rank=2", "--batch-size=1", "--sample-steps=2", "--precision=no"]


def start() -> None:
    """The tiny model of ModelScope's layout, in the folder `base`."""
    Path("models").mkdir()
    shutil.move(TINY["TextToVideoSDPipeline"](Path("models")), "base")


@pytest.mark.parametrize(("arguments", "problem"), MISTAKES, ids=[" ".join(row[0]) for row in MISTAKES])
def test_a_mistake_is_one_line(longtake: Callable, arguments: tuple[str, ...], problem: str) -> None:
    ran = longtake("train", "adapt", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert problem in ran.err and ran.err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("family", ["WanTransformer3DModel", "UNetMotionModel", "LTXVideoTransformer3DModel"])
@pytest.mark.parametrize("recipe", ["guidance", "levels"])
def test_other_families_make_a_video_with_it(longtake: Callable, family: str, recipe: str) -> None:
    Path("models").mkdir()
    base = str(TINY[family](Path("models")))
    spec = model_spec(base)
    folder, length = Path("walls", "one"), spec.timing.pixel_frames(spec.num_frames)
    folder.mkdir(parents=True)
    for number, shade in enumerate(np.linspace(0, 255, length + 1)):
        Image.new("RGB", (spec.width, spec.height), (int(shade),) * 3).save(folder / f"{number:03d}.png")
    (folder / "captions.jsonl").write_text('{"frame": 0, "text": "a wall"}')
    ran = longtake("train", "adapt", "walls", "--base", base, f"--recipe={recipe}", *SMALL, "--steps=3", "-o", "run")
    assert ran.status == 0, ran.err
    made = longtake(
        *("generate", "a wall", "--model", base, "--lora=run/final", "--sampler=chunked", "--steps=2"),
        *("--frames=9", "-o", "wall.mkv"),
    )
    assert made.status == 0, made.err
    assert json.loads(Path("wall.json").read_text())["plan"]["guidance"] == (
        1 if recipe == "guidance" else spec.guidance
    )


@pytest.mark.slow
def test_what_learnt_guidance_takes_no_other(longtake: Callable) -> None:
    start()
    episodes()
    ran = longtake("train", "adapt", "episodes", "--base=base", *SMALL, "--steps=3", "-o", "run", "--json")
    assert ran.status == 0 and json.loads(ran.out)["finished"], ran.err
    assert "recipe guidance, guidance 3; 3 steps of 1 clips" in ran.err
    with safe_open("run/final/pytorch_lora_weights.safetensors", framework="pt") as opened:
        told = json.loads(opened.metadata()["longtake"])
    assert told["guidance"] == 3 and told["recipe"] == "guidance"
    assert model_spec("base", lora=("run/final",)).guidance == 1
    video = ["generate", "a dark wall", "--model=base", "--frames=10", "--lora=run/final", "-o"]
    made = longtake(*video, "one.mkv", "--json")
    assert made.status == 0, made.err
    assert json.loads(Path("one.json").read_text())["plan"]["guidance"] == 1
    refused = longtake(*video, "two.mkv", "--guidance=3")
    assert (
        refused.status == 2
        and "has learnt to say guidance 3 in one branch" in refused.err
        and refused.err.count("\n") == 1
    )
    assert not Path("two.mkv").exists()
