"""Two experts, one for each end of the noise: every frame is made by that of its own level (Wan2.2 T2V A14B)."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanPipeline
from torch import Tensor

from longtake._generate import stream
from longtake.errors import CheckpointError
from longtake.model import PerFrameNoise, TemporalHooks
from longtake.models import from_pipe, load_model, model_spec
from longtake.models.wan.model import WanModel
from longtake.models.wan.network import flow_x0
from longtake.noise import seeded_noise
from longtake.request import GuidanceByLevel, PromptTimeline, Request
from longtake.samplers.chunked.loop import prepare, sample
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.fifo import loop as fifo_loop
from longtake.samplers.fifo.plan import Fifo

from .stock import EvenLevels
from .wan_fixture import CHANNELS, FRAMES, HEIGHT, WIDTH, tiny_a14b

PROMPTS = ["", "a red car", "a blue boat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_a14b(tmp_path_factory.mktemp("models"))


@pytest.fixture
def model(folder: Path) -> WanModel:
    found = load_model(str(folder))
    assert isinstance(found, WanModel)
    return found


def latents(windows: int) -> Tensor:
    return torch.randn((windows, CHANNELS, FRAMES, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(0))


def by(transformer, model: WanModel, x: Tensor, level: Tensor) -> Tensor:
    """The plain path: all windows by one transformer."""
    text = model.encode(PROMPTS).rows["text"]
    return flow_x0(transformer, x, level, model.schedule(10), text, torch.ones_like(level))


def test_the_spec_has_both_guidances_and_where_they_meet(folder: Path, model: WanModel) -> None:
    spec = model_spec(str(folder))
    assert spec == model.spec and spec.capabilities == {PerFrameNoise, TemporalHooks}
    assert spec.guidance == GuidanceByLevel(noisy=4.0, clean=3.0, timestep=875.0)
    parts = model.pipeline
    networks = (parts.transformer, parts.transformer_2, parts.vae, parts.text_encoder)
    assert spec.parameters == sum(tensor.numel() for part in networks for tensor in part.parameters())
    assert isinstance(parts, WanPipeline) and parts.config.boundary_ratio == 0.875
    assert from_pipe(parts, **json.loads((folder / "longtake.json").read_text())).spec.guidance == spec.guidance


def test_every_frame_is_made_by_the_expert_of_its_level(model: WanModel) -> None:
    """Of 10 levels at shift 3 the 7th lies on the boundary, which belongs to the noisy end."""
    assert float(model.schedule(10).timestep[7]) == pytest.approx(875)
    x = latents(4)
    level = torch.tensor([[10, 10, 9, 9, 9], [1, 9, 3, 10, 7], [5, 6, 5, 4, 3], [6, 6, 7, 7, 8]])
    rows = torch.ones_like(level)
    x0 = model.denoise(x, level, model.schedule(10), model.encode(PROMPTS), rows)
    experts = (model.pipeline.transformer, model.pipeline.transformer_2)
    noisy, clean = (by(expert, model, x, level) for expert in experts)
    expected = torch.where((level >= 7)[:, None, :, None, None], noisy, clean)
    torch.testing.assert_close(x0, expected, atol=1e-6, rtol=0)
    assert (noisy - clean).abs().max() > 0.1
    whole = model.denoise(x, torch.tensor([10, 3, 7, 6]), model.schedule(10), model.encode(PROMPTS), rows)
    even = torch.tensor([10, 3, 7, 6])[:, None].expand(-1, FRAMES)
    torch.testing.assert_close(
        whole, model.denoise(x, even, model.schedule(10), model.encode(PROMPTS), rows), atol=1e-5, rtol=0
    )


class Turns:
    """Which expert was given how many windows, call by call."""

    def __init__(self, model: WanModel) -> None:
        self.calls: list[tuple[int, int]] = []
        for number, transformer in enumerate(model.experts.transformers):
            transformer.register_forward_pre_hook(
                lambda _, given, number=number: self.calls.append((number, len(given[0])))
            )


def test_windows_go_to_the_experts_in_groups_that_change_seldom(model: WanModel) -> None:
    turns, level = Turns(model), torch.tensor([[1] * 5, [4, 6, 8, 9, 10], [9] * 5, [10] * 5])
    for rows in (torch.ones_like(level), torch.zeros_like(level)):
        model.denoise(latents(4), level, model.schedule(10), model.encode(PROMPTS), rows)
    assert turns.calls == [(0, 3), (1, 2), (1, 2), (0, 3)]


def test_sampling_equals_the_stock_pipeline(folder: Path, model: WanModel) -> None:
    pipeline: Any = WanPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.scheduler = EvenLevels.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    request = Request(prompts=PromptTimeline.constant("a red car"), frames=17, negative_prompt="a blue boat", steps=6)
    setting = prepare(model, Chunked().plan(request, model.spec), seeded_noise(5))
    turns = Turns(model)
    found = sample(setting, 0, None)
    assert {expert for expert, _ in turns.calls} == {0, 1}
    expected = pipeline(
        "a red car",
        negative_prompt="a blue boat",
        num_frames=17,
        height=32,
        width=48,
        num_inference_steps=6,
        guidance_scale=4.0,
        guidance_scale_2=3.0,
        latents=setting.draw_window(0, range(FRAMES), "frame")[None],
        output_type="latent",
    ).frames[0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def queue_after(model: WanModel, iterations: int) -> Tensor:
    """Return FIFO's queue after so many iterations."""
    request = Request(prompts=PromptTimeline((0, 5), ("a red car", "a blue boat")), frames=40, guidance=2.0)
    setting = fifo_loop.prepare(model, Fifo(partitions=2).plan(request, model.spec), seeded_noise(3))
    queue = fifo_loop.fill(setting, fifo_loop.base_clip(setting))
    for _ in range(iterations):
        queue = fifo_loop.shift(setting, queue, *fifo_loop.advance(setting, queue))
    return queue.frames


def test_equal_experts_are_as_one(model: WanModel) -> None:
    """FIFO's queue has windows that straddle the boundary."""
    model.pipeline.transformer_2.load_state_dict(model.pipeline.transformer.state_dict())
    turns = Turns(model)
    two, given = queue_after(model, 4), sum(count for _, count in turns.calls)
    turns.calls.clear()
    model.experts.boundary = 0.0
    torch.testing.assert_close(two, queue_after(model, 4), atol=1e-6, rtol=0)
    assert given > sum(count for _, count in turns.calls), "no window was given to both"


@pytest.mark.parametrize("sampler", [Fifo(), Fifo(partitions=2, guided_windows=2)], ids=str)
def test_a_window_that_both_experts_look_at_counts_twice(model: WanModel, sampler: Fifo) -> None:
    request, turns = Request(prompts=PromptTimeline.constant("a red car"), frames=21, guidance=2.0), Turns(model)
    plan = sampler.plan(request, model.spec)
    assert sum(1 for _ in stream(model, request, sampler))
    assert sum(count for _, count in turns.calls) == plan.forwards
    one = sampler.plan(request, replace(model.spec, experts_meet=0.0))
    assert one.forwards and plan.forwards and one.forwards < plan.forwards < 2 * one.forwards


def test_where_the_levels_meet_follows_the_levels(folder: Path, tmp_path: Path) -> None:
    assert model_spec(str(folder)).experts_meet == pytest.approx(0.7)
    told = Path(shutil.copytree(folder, tmp_path / "copy")) / "longtake.json"
    told.write_text(json.dumps(json.loads(told.read_text()) | {"sigmas": [1.0, 0.75, 0.5]}))
    assert model_spec(str(told.parent)).experts_meet == pytest.approx(2.5 / 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boundary_ratio": None}, "has no boundary_ratio for a transformer_2"),
        ({"transformer_2": [None, None]}, "has a boundary_ratio without a transformer_2"),
        ({"boundary_ratio": 1.5}, "boundary_ratio is 1.5"),
    ],
)
def test_a_boundary_that_cannot_be_is_refused(folder: Path, tmp_path: Path, changes, message) -> None:
    index = Path(shutil.copytree(folder, tmp_path / "copy")) / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | changes))
    with pytest.raises(CheckpointError, match=message):
        model_spec(str(index.parent))
