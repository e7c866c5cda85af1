"""Tiny networks in the place of VBench's, whose answers are known."""

import string
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from longtake.metrics.of_video import Frames

NOISE = np.random.default_rng(0).integers(0, 256, (25, 24, 40, 3), dtype=np.uint8)
"""Clips of two seconds: frames 0 to 15, and 9 to 24."""


class Pooled(nn.Module):
    """What DINO is here: the colours of 16 places."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)


class Widest(nn.Module):
    """A picture's length, as its quality."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[0] == 1 and x.max() <= 1
        return torch.full((1, 1), float(x.shape[3]))


class Between(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        assert x.shape[2] % 16 == 0 and x.shape[3] % 16 == 0
        return (x + y) / 2


class Still(nn.Module):
    """A flow of so many pixels to the right and down, everywhere."""

    def __init__(self, right: float, down: float) -> None:
        super().__init__()
        self.right, self.down = right, down

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        flow = torch.zeros_like(x)[:, :2]
        flow[:, 0] += self.right
        flow[:, 1] += self.down
        return flow


class Ramp(nn.Module):
    """A flow as long as the number of its column."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        assert x.shape[2] % 8 == 0 and x.shape[3] % 8 == 0
        return torch.arange(x.shape[3]).float().expand(1, 2, x.shape[2], -1) * torch.tensor([[[[1.0]], [[0.0]]]])


class Reds(nn.Module):
    """What ViCLIP is here: the red of every frame, and the numbers of the first words."""

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        assert x.shape == (1, 8, 3, 224, 224) and y.shape == (1, 32)
        return x[:, :, 0].mean(dim=[2, 3]), y[:, :8].float()


def saved(module: nn.Module, path: Path) -> Path:
    with pytest.warns(DeprecationWarning):
        torch.jit.save(torch.jit.script(module), str(path))
    return path


def written(folder: Path, frames: Frames) -> Path:
    folder.mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number:06d}.png")
    return folder


def tiny_clip(folder: Path) -> Path:
    """Save a CLIPModel in the hub's layout."""
    words = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase)]
    signs = ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: rank for rank, word in enumerate([*words, *signs])}
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**sizes, "vocab_size": 54, "max_position_embeddings": 12, "bos_token_id": 52, "eos_token_id": 53},
        vision_config={**sizes, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    return folder
