"""`longtake evaluate reconstruction`, end to end on small worlds."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from longtake.data.sprites import random_world
from longtake.models.embedded import WEIGHTS
from longtake.models.pvdm.losses import VGG_CHANNELS, VGG_CONVOLUTIONS

WORLDS = ("--real", "sprites", "--worlds", "2", "--clips", "2")


def scores(longtake: Callable, *arguments: str) -> dict:
    ran = longtake("evaluate", "reconstruction", "--json", *arguments)
    assert ran.status == 0, ran.err
    return json.loads(ran.out)


def test_reconstructions_that_are_made_already_are_compared_by_name(longtake: Callable):
    for name, change in (("real", lambda clip: clip), ("again", lambda clip: clip // 2 * 2 + 1)):
        for seed in range(3):
            folder = Path(name) / f"a/{seed}"
            folder.mkdir(parents=True)
            for frame, pixels in enumerate(change(random_world(seed).frames(0, 16))):
                Image.fromarray(pixels).save(folder / f"{frame:06d}.png")
    found = scores(longtake, "--real", "real", "--fake", "again")
    # The last bit is 1 for all: half of the pixels are off by one.
    assert found["psnr"] == pytest.approx(20 * np.log10(255) + 10 * np.log10(2), abs=0.5)
    assert 0.99 < found["ssim"] < 1 and found["lpips"] is None and found["clips"] == 3
    assert found["labels"]["r_fvd"].startswith("not comparable with published FVD: a stand-in")


def test_an_autoencoder_is_scored_as_a_model_and_as_a_folder_of_its_own(longtake: Callable):
    vae = scores(longtake, *WORLDS, "--autoencoder", str(WEIGHTS / "sprites" / "vae"))
    model = scores(longtake, *WORLDS, "--autoencoder", "sprites")
    planes = scores(longtake, *WORLDS, "--autoencoder", str(WEIGHTS / "pvdm-sprites" / "autoencoder"))
    assert vae["psnr"] == pytest.approx(model["psnr"], abs=1e-3) and 20 < planes["psnr"] < vae["psnr"] < 50
    assert 0.5 < planes["ssim"] < vae["ssim"] < 1 and vae["r_fvd"] < planes["r_fvd"]


def test_weights_of_lpips_add_it(longtake: Callable):
    tensors, entering, place = {}, 3, iter((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28))
    for stage, (width, convolutions) in enumerate(zip(VGG_CHANNELS, VGG_CONVOLUTIONS, strict=True)):
        for _ in range(convolutions):
            name = f"perceptual_loss.net.slice{stage + 1}.{next(place)}"
            tensors |= {f"{name}.weight": torch.randn(width, entering, 3, 3) / 30, f"{name}.bias": torch.zeros(width)}
            entering = width
        tensors[f"perceptual_loss.lin{stage}.model.1.weight"] = torch.rand(1, width, 1, 1)
    torch.save(tensors, "loss_last.pth")
    vae = str(WEIGHTS / "sprites" / "vae")
    assert scores(longtake, *WORLDS, "--autoencoder", vae, "--lpips", "loss_last.pth")["lpips"] > 0


def test_mistakes_are_one_line(longtake: Callable):
    planes = str(WEIGHTS / "pvdm-sprites" / "autoencoder")
    for more, reason in (
        ((), "either --autoencoder"),
        (("--autoencoder", "none"), "none"),
        (("--autoencoder", planes, "--frames", "20"), "16 frames at once"),
        (("--autoencoder", planes, "--lpips", "none.pth"), "there is no file none.pth"),
    ):
        ran = longtake("evaluate", "reconstruction", *WORLDS, *more)
        assert ran.status == 2 and reason in ran.err and len(ran.err.splitlines()) == 1, ran.err
