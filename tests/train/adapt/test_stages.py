"""A LoRA learnt beside a network: what it is taught, and that nothing else changes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from longtake.data.episodes import Captions, Episodes
from longtake.data.footage import Footage, Recording
from longtake.models import load_model
from longtake.models.hub.lora import LoraLayers
from longtake.samplers.step import free
from longtake.train.adapt.settings import AdaptSettings
from longtake.train.adapt.stages import AdaptTask, CaptionedClips, _used_layers, encode_clips
from longtake.train.fit.latents import ALL, never

from ...models.tiny import TINY

TEXTS = ("a dark wall", "a bright wall")


def episodes(model: Any) -> Episodes:
    """A recording of noise, two clips and a rest long, whose caption changes in the middle of the first clip."""
    spec = model.spec
    length = spec.timing.pixel_frames(spec.num_frames)
    frames = np.random.default_rng(0).integers(0, 256, (2 * length + 1, spec.height, spec.width, 3), np.uint8)
    wall = Recording(name="wall", num_frames=len(frames), fps=8.0, read=lambda start, stop: iter(frames[start:stop]))
    captions = Captions(starts=(0, length // 2), stops=(None, None), texts=TEXTS)
    return Episodes(footage=Footage(recordings=(wall,), size=None), captions=(captions,))


def task_of(model: Any, folder: Path, settings: AdaptSettings, guidance: float = 3.0) -> AdaptTask:
    given = episodes(model)
    assert encode_clips(model, given, folder, never, ALL)
    layers = LoraLayers(_used_layers(model), settings.rank)
    return AdaptTask(model, layers, CaptionedClips(folder, given, model), settings, guidance)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_model(str(TINY["TextToVideoSDPipeline"](tmp_path_factory.mktemp("models"))))


def test_clips_show_what_their_captions_say_frame_by_frame(model: Any, tmp_path: Path) -> None:
    clips = task_of(model, tmp_path, AdaptSettings(batch_size=1)).clips
    assert clips.texts == ["", *TEXTS]
    assert clips.rows.tolist() == [[1] * 4 + [2] * 4, [2] * 8]
    drawn = clips.draw(8, 0.5, torch.Generator().manual_seed(0))
    read = model.encode(["", *TEXTS]).rows["text"]
    for latents, rows in zip(drawn.latents, drawn.windows.prompt_index, strict=True):
        clip = next(number for number in (0, 1) if torch.equal(clips.latents[number].float(), latents))
        told = drawn.windows.condition.rows["text"][rows]
        torch.testing.assert_close(told, read[clips.rows[clip]] if rows.any() else read[[0] * 8])


@pytest.mark.parametrize("recipe", ["guidance", "levels"])
def test_only_what_goes_beside_the_network_learns(model: Any, tmp_path: Path, recipe: Any) -> None:
    task = task_of(model, tmp_path, AdaptSettings(batch_size=1, rank=4, recipe=recipe))
    before = {name: weight.clone() for name, weight in model.pipeline.unet.state_dict().items()}
    optimiser = torch.optim.Adam(task.module().parameters(), lr=2e-2)

    def loss() -> torch.Tensor:
        return task.loss(torch.Generator().manual_seed(3))[0]

    first = loss()
    for _ in range(6):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    assert loss().item() < 0.9 * first.item()
    after = model.pipeline.unet.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert not any(weight.requires_grad for weight in model.pipeline.unet.parameters())


def test_the_teacher_is_the_model_with_guidance(model: Any, tmp_path: Path) -> None:
    settings = AdaptSettings(batch_size=1, rank=1)
    task = task_of(model, tmp_path, settings, guidance=1.0)
    assert task.loss(torch.Generator().manual_seed(0))[0].item() == 0
    drawn = task.clips.draw(2, 0.0, torch.Generator().manual_seed(0))
    x, levels = torch.randn(drawn.latents.shape), torch.full(drawn.windows.prompt_index.shape, 700)
    plain, empty = (
        free(model, replace(drawn.windows, prompt_index=rows), 1.0)(x, levels)
        for rows in (drawn.windows.prompt_index, torch.zeros_like(drawn.windows.prompt_index))
    )
    taught = task_of(model, tmp_path, settings)._taught(x, levels, drawn.windows)
    torch.testing.assert_close(taught, empty + 3 * (plain - empty))


@pytest.mark.slow
@pytest.mark.parametrize(
    "family", ["WanTransformer3DModel", "UNetMotionModel", "LTXVideoTransformer3DModel", "CogVideoXPipeline"]
)
@pytest.mark.parametrize("recipe", ["guidance", "levels"])
def test_other_families_learn(family: str, recipe: Any, tmp_path: Path) -> None:
    model: Any = load_model(str(TINY[family](tmp_path)))
    task = task_of(model, tmp_path / "latents", AdaptSettings(batch_size=1, rank=2, recipe=recipe, sample_steps=2))
    optimiser = torch.optim.Adam(task.module().parameters(), lr=2e-4)
    losses = []
    for _ in range(4):
        loss, _ = task.loss(torch.Generator().manual_seed(1))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None for parameter in task.module().parameters())
    assert task.sample().isfinite().all()
    task.save(tmp_path / "saved")
    fused = load_model(model.origin, lora=(str(tmp_path / "saved"),))
    assert fused.spec.guidance == (1 if recipe == "guidance" else model.spec.guidance)
    drawn = task.clips.draw(1, 0.0, torch.Generator().manual_seed(0))
    x, levels = torch.randn(drawn.latents.shape), torch.full(drawn.windows.prompt_index.shape, 600)
    with task.layers.added():
        beside = free(model, drawn.windows, 1.0)(x, levels)
    torch.testing.assert_close(free(fused, drawn.windows, 1.0)(x, levels), beside, atol=2e-3, rtol=2e-3)
