"""NUWA-XL's tree over a causal video autoencoder: clips between the pictures of a storyboard, by VACE and by FLF2V."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from longtake.errors import CapabilityError, InputError
from longtake.models import load_model
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.nuwa_xl.plan import NuwaXl

from .wan_fixture import HEIGHT, WIDTH, tiny_from_pictures, tiny_vace


@pytest.fixture(scope="module", params=["vace", "flf2v"])
def model(request, tmp_path_factory: pytest.TempPathFactory) -> Any:
    parent = tmp_path_factory.mktemp("models")
    return load_model(str(tiny_vace(parent) if request.param == "vace" else tiny_from_pictures(parent, "flf2v")))


@pytest.fixture(scope="module")
def storyboard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(3):
        shown = rng.integers(0, 256, (8 * HEIGHT, 8 * WIDTH, 3), dtype=np.uint8)
        Image.fromarray(shown).save(folder / f"{number}.png")
    return folder


def made(model: Any, settings: NuwaXl, frames: int, resume: Any = None) -> list[Any]:
    request = Request(prompts=PromptTimeline((0, 20), ("a red car", "a blue boat")), frames=frames, steps=2)
    plan = settings.plan(request, model.spec)
    return [(chunk, dict(chunk.state())) for chunk in run_plan(model, plan, seeded_noise(3), ALONE, resume)]


def video(chunks: list[Any]) -> np.ndarray:
    return np.concatenate([chunk.frames for chunk, _ in chunks])


def test_a_storyboard_of_three_pictures_is_passed_through_bit_for_bit(model: Any, storyboard: Path) -> None:
    settings, frames = NuwaXl(keyframes=str(storyboard)), 33
    chunks = made(model, settings, frames)
    whole = video(chunks)
    pictures = [np.array(Image.open(storyboard / f"{number}.png")) for number in range(3)]
    assert whole.shape == (33, 8 * HEIGHT, 8 * WIDTH, 3)
    for number, picture in enumerate(pictures):
        assert np.array_equal(whole[16 * number], picture), "the frame that two clips share comes out once"
    for index, (_, state) in enumerate(chunks[:-1]):
        rest = video(chunks[index + 1 :])
        assert np.array_equal(video(made(model, settings, frames, state)), rest)


def test_what_lies_between_hangs_on_both_pictures(model: Any, storyboard: Path, tmp_path: Path) -> None:
    whole = video(made(model, NuwaXl(keyframes=str(storyboard)), 33)).astype(int)
    for number in (0, 1):
        (tmp_path / f"{number}.png").write_bytes((storyboard / f"{number}.png").read_bytes())
    Image.fromarray(np.full((8 * HEIGHT, 8 * WIDTH, 3), 255, np.uint8)).save(tmp_path / "2.png")
    other = video(made(model, NuwaXl(keyframes=str(tmp_path)), 33)).astype(int)
    assert np.array_equal(whole[:17], other[:17]) and not np.array_equal(whole[17:32], other[17:32])


def test_counts_are_those_of_clips_of_pixels(model: Any, storyboard: Path) -> None:
    request = Request(prompts=PromptTimeline.constant("a red car"), frames=33, steps=2)
    plan = NuwaXl(keyframes=str(storyboard)).plan(request, model.spec)
    assert plan.ladder.lengths == (3, 17) and plan.tasks == 2 and plan.decoded == 2 * 5
    assert plan.forwards == 2 * 2 * 2 and plan.latent_prompts(range(16, 33)) == [1] * 5


def test_without_a_storyboard(model: Any) -> None:
    """VACE makes the first clip from text, FLF2V was never trained to."""
    if model.spec.needs_pictures:
        with pytest.raises(InputError, match="give a storyboard as keyframes"):
            made(model, NuwaXl(), 17)
        return
    assert video(made(model, NuwaXl(), 40)).shape == (40, 8 * HEIGHT, 8 * WIDTH, 3)
    row = made(model, NuwaXl(depth=1), 40)
    assert video(row).shape[0] == 40 and torch.is_tensor(row[0][1]["next"])
    for settings, reason in (
        (NuwaXl(handoff="pixel"), "handoff has no effect"),
        (NuwaXl(fit="stretch"), "stretch cannot change"),
    ):
        with pytest.raises(InputError, match=reason):
            made(model, settings, 17)


def test_a_first_picture_alone_is_refused(tmp_path: Path, storyboard: Path) -> None:
    model = load_model(str(tiny_vace(tmp_path)))
    request = Request(prompts=PromptTimeline.constant("a red car"), frames=33, init=str(storyboard / "0.png"))
    with pytest.raises(CapabilityError, match="give them as keyframes"):
        NuwaXl().plan(request, model.spec)
