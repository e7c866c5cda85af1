"""Weights in 8 bits."""

from pathlib import Path

import torch

from longtake.train.sprites.assemble import pack, unpack


def test_weights_come_back_within_half_a_step(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = {
        "matrix": torch.randn(6, 40) * torch.logspace(-5, 2, 6)[:, None],
        "convolution": torch.randn(3, 2, 1, 4, 4),
        "zeros": torch.zeros(2, 5),
        "bias": torch.randn(7),
    }
    pack(weights, tmp_path / "packed.safetensors")
    again = unpack(tmp_path / "packed.safetensors")
    assert {name: value.shape for name, value in again.items()} == {name: v.shape for name, v in weights.items()}
    for name in ("matrix", "convolution"):
        error = (again[name] - weights[name]).flatten(1).abs().amax(dim=1)
        largest = weights[name].flatten(1).abs().amax(dim=1)
        assert (error <= largest / 254 * 1.01 + 2**-24).all()
    assert not again["zeros"].any()
    torch.testing.assert_close(again["bias"], weights["bias"], atol=1e-3, rtol=1e-3)


def test_a_matrix_takes_a_byte_a_weight(tmp_path: Path) -> None:
    pack({"matrix": torch.randn(1000, 1000)}, tmp_path / "packed.safetensors")
    assert (tmp_path / "packed.safetensors").stat().st_size < 1.01e6
