"""A timestep per frame, also with gradients."""

from pathlib import Path

import pytest
import torch

from longtake.models.diffusers.frame_levels import frame_timesteps
from longtake.models.diffusers.unet import load_unet


def test_equal_timesteps_are_the_stock_call_and_others_are_not(folder: Path) -> None:
    unet = load_unet(folder, "cpu", torch.float64).parts.unet
    x, text = torch.randn(2, 4, 3, 8, 8, dtype=torch.float64), torch.randn(2, 12, 16, dtype=torch.float64)
    timestep = torch.tensor([700, 20])
    expected = unet(x, timestep, text).sample
    with frame_timesteps(unet, timestep[:, None].repeat(1, 3)):
        torch.testing.assert_close(unet(x, 0, text).sample, expected, atol=1e-9, rtol=0)
    with frame_timesteps(unet, torch.tensor([[700, 700, 20], [20, 20, 20]])):
        mixed = unet(x, 0, text).sample
    assert not torch.allclose(mixed[0, :, 2], expected[0, :, 2])
    torch.testing.assert_close(mixed[1], expected[1], atol=1e-9, rtol=0)
    torch.testing.assert_close(unet(x, timestep, text).sample, expected, atol=1e-9, rtol=0)


def test_the_time_embedding_learns_through_it(folder: Path) -> None:
    unet = load_unet(folder, "cpu", torch.float32).parts.unet.requires_grad_(True)
    with frame_timesteps(unet, torch.tensor([[700, 20]])):
        unet(torch.randn(1, 4, 2, 8, 8), 0, torch.randn(1, 12, 16)).sample.pow(2).mean().backward()
    gradient = unet.time_embedding.linear_1.weight.grad
    assert gradient is not None and gradient.abs().sum() > 0


def test_an_error_inside_restores_the_network(folder: Path) -> None:
    unet = load_unet(folder, "cpu", torch.float32).parts.unet
    before = unet.time_embedding
    with pytest.raises(RuntimeError, match="inside"), frame_timesteps(unet, torch.tensor([[1, 2]])):
        raise RuntimeError("inside")
    assert unet.time_embedding is before
