"""Pictures whose right side goes on at the left: network and decoder treat all columns alike, and nothing shows where
the sides meet."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from longtake._generate import Output, generate
from longtake.errors import InputError, LongtakeError
from longtake.model import Condition, Infill, Known, PerFrameNoise
from longtake.models import load_model, model_spec
from longtake.models.image_model import ImageModel
from longtake.request import PromptTimeline, Request
from longtake.samplers.chunked.plan import Chunked
from longtake.video.read import read_frames

from .tiny import TINY

FAMILIES = [
    "TextToVideoSDPipeline",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("UNetMotionModel", "UNet2DConditionModel", "AnimateDiffSparseControlNetPipeline")
    ),
]
CELLS = 2
"""Of the latents, that the tiny networks halve to one."""


def x0(model: ImageModel, x: torch.Tensor, condition: Condition) -> torch.Tensor:
    schedule, prompts = model.schedule(4), torch.zeros((1, x.shape[2]), dtype=torch.int64)
    if isinstance(model, PerFrameNoise):
        return model.denoise(x, torch.full((1, x.shape[2]), 2), schedule, condition, prompts)
    assert isinstance(model, Infill)
    known = Known(latents=x[:, :, [0, -1]], places=(0, x.shape[2] - 1))
    return model.denoise_between(x, torch.tensor([2]), schedule, condition, prompts, known)


def turned_apart(model: ImageModel) -> list[float]:
    """Return how far x0, pixels and latents of a turned picture are at most from those of the picture, turned."""
    x = torch.randn((1, *model.spec.latent_shape), generator=torch.Generator().manual_seed(0))
    condition, unit = model.encode(["a red car"]), model.spec.width // x.shape[-1]
    pixels = model.decode(x[0], None, True)[0]
    pairs = [
        (x0(model, x.roll(CELLS, -1), condition), x0(model, x, condition).roll(CELLS, -1)),
        (model.decode(x[0].roll(1, -1), None, True)[0], pixels.roll(unit, -1)),
        (model.encode_frames(pixels.roll(unit, -1)), model.encode_frames(pixels).roll(1, -1)),
    ]
    return [float((one - other).abs().max()) for one, other in pairs]


@pytest.mark.parametrize("family", FAMILIES)
def test_all_columns_are_alike(family: str, tmp_path: Path) -> None:
    folder = str(TINY[family](tmp_path))
    plain, model = load_model(folder), load_model(folder, wrap=True)
    assert isinstance(plain, ImageModel) and isinstance(model, ImageModel)
    assert max(turned_apart(model)) < 1e-4 < 1e-2 < min(turned_apart(plain))
    assert model.spec == plain.spec == model_spec(folder, wrap=True) and model.digest != plain.digest


def test_nothing_shows_where_the_sides_meet(tmp_path: Path) -> None:
    shares = []
    for wrap in (False, True):
        model, path = load_model("sprites-fast", wrap=wrap), tmp_path / f"{wrap}.mkv"
        prompt = PromptTimeline.constant("a red car drives right through the city")
        generate(model, Request(prompts=prompt, frames=16, steps=8, seed=3), Chunked(), Output(path=path))
        frames = np.concatenate(list(read_frames(path))).astype(np.float32)
        steps = np.abs(np.diff(frames, axis=2, append=frames[:, :, :1])).mean(axis=(0, 1, 3))
        shares.append(steps[-1] / steps[:-1].max())
        assert json.loads(path.with_suffix(".json").read_text())["model"].get("wrap", False) == wrap
    assert shares[1] <= 1 < shares[0]


def test_a_run_goes_on_with_the_same_sides_only(tmp_path: Path) -> None:
    folder = str(TINY["TextToVideoSDPipeline"](tmp_path))
    model, request = load_model(folder, wrap=True), Request(prompts=PromptTimeline.constant("a"), frames=24, steps=2)
    whole, killed = tmp_path / "whole.mkv", tmp_path / "killed.mkv"

    def stop(frames: int, *told: object) -> None:
        if frames:
            raise KeyboardInterrupt

    generate(model, request, Chunked(), Output(path=whole))
    with pytest.raises(KeyboardInterrupt):
        generate(model, request, Chunked(), Output(path=killed, segment=4), progress=stop)
    with pytest.raises(LongtakeError, match="with other settings: wrap was true and is now not set; use"):
        generate(load_model(folder), request, Chunked(), Output(path=killed, segment=4))
    assert generate(model, request, Chunked(), Output(path=killed, segment=4)).resumed_from > 0
    made = [np.concatenate(list(read_frames(path))) for path in (whole, killed)]
    assert (made[0] == made[1]).all()


@pytest.mark.parametrize("family", ["LattePipeline", "UNetSpatioTemporalConditionModel", "NuwaXlPipeline"])
def test_networks_that_know_places_otherwise_are_refused(family: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--wrap does not fit .* leave it out"):
        model_spec(str(TINY[family](tmp_path)), wrap=True)


@pytest.mark.parametrize(
    ("loading", "words"),
    [
        ({"vae_tiling": True}, "--wrap does not fit --vae-tiling"),
        ({"size": "72x64"}, "whole multiples of 16 pixels, .* which 72 is not; give another --size"),
    ],
)
def test_sides_that_cannot_meet_are_refused(loading: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        model_spec("sprites-fast", wrap=True, **loading)
