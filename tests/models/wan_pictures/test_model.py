"""Wan's transformer on pictures' latents, at tiny sizes: written by training, read back, and run."""

import json
from pathlib import Path

import pytest
import torch

from longtake.errors import CheckpointError
from longtake.model import Continuation, Infill, Known, PerFrameNoise, TemporalHooks
from longtake.models import load_model, model_spec
from longtake.models.hub import load
from longtake.models.wan_pictures.model import WanPictures
from longtake.train.sprites.transformer import noise_share

from .fixture import CAPTIONS, tiny_wan_pictures

PROMPTS = ["", *CAPTIONS[:2]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_wan_pictures(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def model(folder: Path) -> WanPictures:
    found = load_model(str(folder))
    assert isinstance(found, WanPictures)
    return found


def test_spec_is_known_before_the_weights(folder: Path, model: WanPictures) -> None:
    spec = model_spec(str(folder))
    assert spec == model.spec
    assert spec.latent_shape == (4, 4, 8, 8) and (spec.height, spec.width) == (16, 16) and spec.frame_by_frame
    assert spec.capabilities == {PerFrameNoise, TemporalHooks, Infill, Continuation}
    assert spec.temporal_layers == (("attention", 24, 4),) * 2 and spec.forward_flops and spec.decode_flops
    held = sum(p.numel() for p in (*model.pipeline.transformer.parameters(), *model.pipeline.vae.parameters()))
    assert spec.parameters == held + sum(p.numel() for p in model.pipeline.text_encoder.parameters())


def test_denoise_is_what_training_computes(model: WanPictures) -> None:
    """The levels of a schedule of 1000 are the timesteps of training, a clean frame is timestep 0."""
    x, level = torch.randn(2, 4, 4, 8, 8), torch.tensor([[0, 1, 500, 1000], [0, 0, 30, 30]])
    schedule, condition = model.schedule(1000), model.encode(PROMPTS)
    rows = torch.tensor([1, 2])
    x0 = model.denoise(x, level, schedule, condition, rows[:, None].expand(-1, 4))
    sigma = noise_share((level - 1).clamp(min=0), level == 0)
    timestep = (1000 * sigma).repeat_interleave(4, dim=1)
    with torch.no_grad():
        flow = model.pipeline.transformer(x, timestep, condition.rows["text"][rows]).sample
    torch.testing.assert_close(x0, x - sigma[:, None, :, None, None] * flow, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(x0[:, :, 0], x[:, :, 0], atol=0, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_folder_loads_without_accelerate_as_with_it(folder: Path, monkeypatch: pytest.MonkeyPatch, dtype) -> None:
    expected = load_model(str(folder), dtype=dtype).pipeline.transformer.state_dict()
    monkeypatch.setattr(load, "is_accelerate_available", lambda: False)
    found = load_model(str(folder), dtype=dtype).pipeline.transformer
    assert found.state_dict().keys() == expected.keys() and not found.training
    for name, tensor in found.state_dict().items():
        assert tensor.dtype == expected[name].dtype and torch.equal(tensor, expected[name]), name
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_frames_follow_their_own_prompt(model: WanPictures) -> None:
    x, condition, schedule = torch.randn(1, 4, 4, 8, 8), model.encode(PROMPTS), model.schedule(10)
    level = torch.full((1, 4), 7)
    same = model.denoise(x, level, schedule, condition, torch.tensor([[1, 1, 1, 1]]))
    switched = model.denoise(x, level, schedule, condition, torch.tensor([[1, 1, 2, 2]]))
    change = (switched - same).abs().amax(dim=(0, 1, 3, 4))
    assert change[2:].min() > 10 * change[:2].max() > 0


def test_known_frames_stay(model: WanPictures) -> None:
    x, condition, schedule = torch.randn(1, 4, 4, 8, 8), model.encode(PROMPTS), model.schedule(10)
    first, last = torch.randn(2, 1, 4, 8, 8)
    rows = torch.ones((1, 4), dtype=torch.long)
    x0 = model.denoise_between(
        x,
        torch.tensor([10]),
        schedule,
        condition,
        rows,
        Known(latents=torch.stack([first, last], dim=2), places=(0, 3)),
    )
    torch.testing.assert_close(x0[:, :, [0, -1]], torch.stack([first, last], dim=2), atol=0, rtol=0)
    after = model.denoise_after(
        x[:, :, :2], torch.tensor([10]), schedule, condition, rows[:, :2], Known(latents=x[:, :, 2:])
    )
    assert after.shape == (1, 4, 2, 8, 8)


def test_pictures_come_back_in_their_size(model: WanPictures) -> None:
    latents = model.encode_frames(torch.rand(3, 3, 16, 16))
    pixels, state = model.decode(latents, None, last=True)
    assert latents.shape == (4, 3, 8, 8) and pixels.shape == (3, 3, 16, 16) and state is None


def test_a_patch_that_does_not_fit_is_refused(folder: Path) -> None:
    path = folder / "transformer" / "config.json"
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | {"patch_size": [1, 3, 3]}))
    with pytest.raises(CheckpointError, match=r"patch_size cannot be \[1, 3, 3\] on latents of 8 x 8"):
        model_spec(str(folder))
    path.write_text(before)


def test_accelerate_is_not_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights, in the same precisions: some layers stay in float32."""

    def loaded() -> dict[str, torch.Tensor]:
        found = load_model(str(folder), dtype=torch.bfloat16)
        assert isinstance(found, WanPictures)
        network = found.pipeline.transformer
        return network.state_dict() | dict(network.named_buffers())

    expected = loaded()
    monkeypatch.setattr("longtake.models.hub.load.is_accelerate_available", lambda: False)
    monkeypatch.setattr("diffusers.models.modeling_utils.is_accelerate_available", lambda: False)
    again = loaded()
    assert {value.dtype for value in again.values()} == {torch.float32, torch.bfloat16}
    torch.testing.assert_close(again, expected, rtol=0, atol=0)
