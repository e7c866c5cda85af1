"""What is put into the network for one call: exact, open to gradients, and gone afterwards."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from longtake.models import load_model
from longtake.models.hooks import (
    GivenEmbedding,
    self_attention,
    self_attention_layers,
    swapped,
    text_layers,
)


def embedding(unet, timesteps: list[list[int]]) -> GivenEmbedding:
    projected = unet.time_proj(torch.tensor(timesteps).flatten()).to(unet.dtype)
    return GivenEmbedding(unet.time_embedding(projected))


def inputs(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 3, 8, 8), (2, 12, 16))
    x, text = (torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)
    return x, text


def test_equal_timesteps_are_the_stock_call_and_others_are_not(folder: Path) -> None:
    unet = load_model(str(folder), "cpu", torch.float64).pipeline.unet
    x, text = inputs(torch.float64)
    expected = unet(x, torch.tensor([700, 20]), text).sample
    with swapped(unet, "time_embedding", embedding(unet, [[700] * 3, [20] * 3])):
        torch.testing.assert_close(unet(x, 0, text).sample, expected, atol=1e-9, rtol=0)
    with swapped(unet, "time_embedding", embedding(unet, [[700, 700, 20], [20] * 3])):
        mixed = unet(x, 0, text).sample
    assert not torch.allclose(mixed[0, :, 2], expected[0, :, 2])
    torch.testing.assert_close(mixed[1], expected[1], atol=1e-9, rtol=0)
    torch.testing.assert_close(unet(x, torch.tensor([700, 20]), text).sample, expected, atol=1e-9, rtol=0)


def test_the_time_embedding_learns_through_it(folder: Path) -> None:
    unet = load_model(str(folder), "cpu", torch.float32).pipeline.unet.requires_grad_(True)
    x, text = inputs(torch.float32)
    with swapped(unet, "time_embedding", embedding(unet, [[700, 20, 3], [1, 2, 3]])):
        unet(x, 0, text).sample.pow(2).mean().backward()
    gradient = unet.time_embedding.linear_1.weight.grad
    assert gradient is not None and gradient.abs().sum() > 0


def test_an_error_inside_restores_the_network(folder: Path) -> None:
    unet = load_model(str(folder), "cpu", torch.float32).pipeline.unet
    before = unet.time_embedding
    with pytest.raises(RuntimeError, match="inside"), swapped(unet, "time_embedding", torch.nn.Identity()):
        raise RuntimeError("inside")
    assert unet.time_embedding is before


def test_self_attention_is_that_of_the_library(folder: Path) -> None:
    unet = load_model(str(folder), "cpu", torch.float64).pipeline.unet
    x, text = inputs(torch.float64)
    expected = unet(x, 5, text).sample
    layers, stock = self_attention_layers(unet), unet.attn_processors
    assert len(layers) + len(text_layers(unet)) == len(stock)
    with self_attention(layers):
        torch.testing.assert_close(unet(x, 5, text).sample, expected, atol=1e-9, rtol=0)
    assert unet.attn_processors == stock


def test_self_attention_in_half_precision_is_no_less_exact(folder: Path) -> None:
    x, text = inputs(torch.bfloat16)
    exact = load_model(str(folder), "cpu", torch.float64).pipeline.unet(x.double(), 5, text.double()).sample
    unet = load_model(str(folder), "cpu", torch.bfloat16).pipeline.unet
    stock = (unet(x, 5, text).sample - exact).pow(2).mean()
    with self_attention(self_attention_layers(unet)):
        ours = (unet(x, 5, text).sample - exact).pow(2).mean()
    assert ours < 1.2 * stock
