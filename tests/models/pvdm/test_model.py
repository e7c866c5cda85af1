"""PVDM as a model: prompts, clips that follow others, pixels, and folders that do not fit."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from longtake.errors import CheckpointError, InputError, LongtakeError, NonFiniteError
from longtake.model import Condition, Continuation, Known
from longtake.models import load_model, model_spec
from longtake.models.pvdm.autoencoder import PvdmAutoencoder
from longtake.models.pvdm.config import AutoencoderConfig, Grid, UnetConfig
from longtake.models.pvdm.load import count_flops, save_index, save_network
from longtake.models.pvdm.unet import PvdmUnet
from longtake.request import PromptTimeline, Request
from longtake.samplers.autoregressive.plan import Autoregressive
from longtake.samplers.planning import checked_plan
from longtake.schedule import to_x0

GRID = Grid(frames=4, rows=2, columns=4)
AUTOENCODER = AutoencoderConfig(grid=GRID, width=16, depth=1, heads=2, pool_depth=1, pool_heads=2)
UNET = UnetConfig(
    grid=GRID, channels=8, multipliers=(1, 2), blocks=1, attention=(True, False), heads=2, groups=4, text_width=16
)
WEIGHTS = "diffusion_pytorch_model.safetensors"


def awake(network: PvdmAutoencoder | PvdmUnet) -> PvdmAutoencoder | PvdmUnet:
    """Return the network, in which what starts at zero does something."""
    for weights in network.parameters():
        if weights.abs().max() == 0:
            torch.nn.init.normal_(weights, std=0.1)
    return network


def write(root: Path, text: Path | None, unet: UnetConfig) -> Path:
    torch.manual_seed(0)
    root.mkdir()
    for network in (awake(PvdmAutoencoder(AUTOENCODER)), awake(PvdmUnet(unet))):
        save_network(root, network.config, network.state_dict())
    save_index(root, with_text=text is not None, fps=12.0)
    if text:
        for part in ("text_encoder", "tokenizer"):
            shutil.copytree(text / part, root / part)
    return root


@pytest.fixture(scope="module")
def reading(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a model that reads text; tests that change it copy it."""
    return write(tmp_path_factory.mktemp("pvdm") / "reading", folder, UNET)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a model without text; tests that change it copy it."""
    return write(tmp_path_factory.mktemp("pvdm") / "plain", None, replace(UNET, text_width=None))


def rows(*prompts: int) -> Tensor:
    return torch.tensor(prompts)[None]


def test_what_is_known_before_loading(reading: Path, plain: Path) -> None:
    spec = model_spec(str(reading))
    assert (spec.num_frames, spec.height, spec.width) == (4, 16, 32)
    assert spec.latent_shape == (4, GRID.positions)
    assert spec.capabilities == {Continuation}
    assert spec.parameters > model_spec(str(plain)).parameters > 0


def test_guidance_is_refused_where_no_text_is_read(reading: Path, plain: Path) -> None:
    request = Request(prompts=PromptTimeline.constant("a car"), frames=8, seed=0, guidance=2.0)
    assert checked_plan(model_spec(str(reading)), request, Autoregressive()).forwards
    with pytest.raises(InputError, match="--guidance has no effect on plain, which reads no text"):
        checked_plan(model_spec(str(plain)), request, Autoregressive())
    assert checked_plan(model_spec(str(plain)), replace(request, guidance=None), Autoregressive()).forwards


def test_x0_agrees_with_the_network(plain: Path) -> None:
    model: Any = load_model(str(plain))
    schedule, x, previous = model.schedule(10), torch.randn(2, 4, GRID.positions), torch.randn(2, 4, GRID.positions)
    level, condition = torch.tensor([3, 10]), model.encode(["", "anything"])
    index = torch.tensor([[1] * 4, [1] * 4])
    with torch.no_grad():
        alone = model.pipeline.unet(x, schedule.timestep[level])
        after = model.pipeline.unet(x, schedule.timestep[level], previous)
    now = schedule.now(level[:, None, None])
    for ours, theirs in (
        (model.denoise(x, level, schedule, condition, index), alone),
        (model.denoise_after(x, level, schedule, condition, index, Known(latents=previous)), after),
    ):
        assert torch.equal(ours, to_x0(theirs, x, now, "epsilon"))
    assert not torch.equal(alone, after)


def test_a_clip_s_prompt_is_the_mean_of_its_frames(reading: Path) -> None:
    model: Any = load_model(str(reading))
    schedule, x, level = model.schedule(10), torch.randn(1, 4, GRID.positions), torch.tensor([7])
    condition = model.encode(["", "abc", "xyz"])
    first, second, both = (
        model.denoise(x, level, schedule, condition, index)
        for index in (rows(1, 1, 1, 1), rows(2, 2, 2, 2), rows(1, 1, 2, 2))
    )
    assert not torch.allclose(first, second)
    mean = Condition({"text": condition.rows["text"][1:].mean(0, keepdim=True)})
    assert torch.allclose(both, model.denoise(x, level, schedule, mean, rows(0, 0, 0, 0)), atol=1e-6)


def test_pixels_there_and_back(plain: Path) -> None:
    model: Any = load_model(str(plain))
    frames = torch.rand(4, 3, 16, 32)
    latents = model.encode_frames(frames)
    assert latents.shape == (4, GRID.positions)
    decoded, state = model.decode(latents, None, last=True)
    assert decoded.shape == frames.shape and state is None
    assert 0 <= decoded.min() and decoded.max() <= 1
    with pytest.raises(InputError, match="4 frames at once, not 3"):
        model.encode_frames(frames[:3])


def test_bfloat16(plain: Path) -> None:
    exact: Any = load_model(str(plain))
    rough: Any = load_model(str(plain), dtype=torch.bfloat16)
    schedule, x, level = exact.schedule(10), torch.randn(1, 4, GRID.positions), torch.tensor([5])
    calls = [model.denoise(x, level, schedule, model.encode([""]), rows(0, 0, 0, 0)) for model in (exact, rough)]
    assert calls[1].dtype == torch.float32
    assert (calls[0] - calls[1]).norm() <= 0.05 * calls[0].norm()


def test_what_decides_the_result_changes_the_digest(plain: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(plain, tmp_path / "changed"))
    config = json.loads((changed / "unet" / "config.json").read_text())
    (changed / "unet" / "config.json").write_text(json.dumps(config | {"prediction": "v_prediction"}))
    digests = {load_model(str(place)).digest for place in (plain, shutil.copytree(plain, tmp_path / "same"), changed)}
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("part", "changes", "reason"),
    [
        ("unet", {"surprise": 1}, "no field 'surprise'"),
        ("unet", {"heads": "2"}, 'heads is "2"'),
        ("unet", {"multipliers": [1, 2.0]}, "multipliers.1 is 2.0"),
        ("unet", {"prediction": "sample"}, 'prediction is "sample"'),
        ("unet", {"channels": 10}, "do not divide"),
        ("unet", {"grid": {"frames": 4, "rows": 2, "columns": 2}}, "made for other latents"),
        ("unet", {"text_width": 16}, "go together"),
        ("unet", {"grid": None}, "grid is null"),
        ("autoencoder", {"compat": 1}, "compat is 1, .* true or false"),
        ("autoencoder", {"_class_name": "Other"}, "is an Other"),
    ],
)
def test_configs_that_do_not_fit(part, changes, reason, plain: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(plain, tmp_path / "broken"))
    file = broken / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(LongtakeError, match=reason) as raised:
        model_spec(str(broken))
    assert "\n" not in str(raised.value)


def test_weights_of_another_network(plain: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(plain, tmp_path / "broken"))
    save_file({"first.weight": torch.zeros(1)}, broken / "unet" / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"first.weight has the shape \[1\], where"):
        load_model(str(broken))


@pytest.mark.parametrize("name", ["told_fps", "vocabulary", "clean_frames", "size"])
def test_settings_without_effect(name: str, plain: Path, tmp_path: Path) -> None:
    values = {"told_fps": 8.0, "vocabulary": ["car"], "clean_frames": True, "size": [16, 32]}
    broken = Path(shutil.copytree(plain, tmp_path / "broken"))
    (broken / "longtake.json").write_text(json.dumps({name: values[name]}))
    with pytest.raises(InputError, match=f"{name} has no effect"):
        model_spec(str(broken))


def test_a_model_without_text_knows_no_word(reading: Path, plain: Path) -> None:
    assert model_spec(str(plain)).vocabulary == frozenset()
    assert model_spec(str(reading)).vocabulary is None


@pytest.mark.parametrize(
    ("config", "giga"),
    [(UnetConfig(), 243), (UnetConfig(channels=128), 72), (AutoencoderConfig(), 1158 / 16)],
)
def test_operations(config, giga) -> None:
    """Against a count on the authors' networks."""
    (count,) = count_flops(config).values()
    assert count == pytest.approx(giga * 1e9, rel=0.02)


@pytest.mark.parametrize("case", ["whole numbers", "another shape", "missing", "too much"])
def test_tensors_that_are_not_the_networks_are_named(plain: Path, tmp_path: Path, case: str) -> None:
    broken = Path(shutil.copytree(plain, tmp_path / "broken"))
    file = broken / "unet" / WEIGHTS
    tensors = load_file(file)
    name = sorted(tensors)[-1]
    tensor = tensors.pop(name)
    changed, said = {
        "whole numbers": ({name: tensor.to(torch.int8)}, f"{WEIGHTS}: {name} is stored as I8, where"),
        "another shape": ({name: tensor[None].clone()}, rf"{WEIGHTS}: {name} has the shape \[1, "),
        "missing": ({}, f"unet lacks 1 tensor, such as {name}; fetch"),
        "too much": ({name: tensor, "a.b": tensor.clone()}, "unet holds a.b, which its network does not have; fetch"),
    }[case]
    save_file(tensors | changed, file)
    with pytest.raises(CheckpointError, match=said):
        load_model(str(broken))


def test_weights_that_are_not_finite_are_refused(plain: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(plain, tmp_path / "broken"))
    file = broken / "unet" / WEIGHTS
    tensors = load_file(file)
    name = sorted(tensors)[-1]
    tensors[name].view(-1)[0] = float("inf")
    save_file(tensors, file)
    with pytest.raises(
        NonFiniteError, match=rf"unet: {name} is not finite \(NaN, or infinite\); no video can come of it"
    ):
        load_model(str(broken))
