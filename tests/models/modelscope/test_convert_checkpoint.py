"""VideoCrafter2's own checkpoint, converted, against its network as the authors arrange it: written anew, small."""

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet3DConditionModel
from torch import Tensor, nn

from longtake.errors import LongtakeError
from longtake.models import load_model
from longtake.models.modelscope import convert
from longtake.models.modelscope.convert import PREFIX, Assembly, assemble, library_name, module_names
from longtake.schedule import to_x0

SETTINGS = Assembly(told_fps=24.0, fps=10.0, guidance=12.0, height=16, width=16)
DEEP = {
    "block_out_channels": [16, 32, 32],
    "layers_per_block": 2,
    "down_block_types": ["CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"],
    "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D"],
}


GROUPS, HEAD_WIDTH = 8, 4


class SelfOrCross(nn.Module):
    """Attention to the text, or to itself."""

    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        inner = heads * HEAD_WIDTH
        self.heads = heads
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_k = nn.Linear(context, inner, bias=False)
        self.to_v = nn.Linear(context, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, width), nn.Dropout())

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (
            layer(y).unflatten(-1, (self.heads, HEAD_WIDTH))
            for layer, y in ((self.to_q, x), (self.to_k, context), (self.to_v, context))
        )
        weights = torch.einsum("nqhd,nkhd->nhqk", q, k).mul(HEAD_WIDTH**-0.5).softmax(dim=-1)
        return self.to_out(torch.einsum("nhqk,nkhd->nqhd", weights, v).flatten(2))


class Gated(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 8 * width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * nn.functional.gelu(gate)


class Feed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(Gated(width), nn.Dropout(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Block(nn.Module):
    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.attn1 = SelfOrCross(width, width, heads)
        self.ff = Feed(width)
        self.attn2 = SelfOrCross(width, context, heads)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, text: Tensor | None) -> Tensor:
        y = self.norm1(x)
        x = x + self.attn1(y, y)
        y = self.norm2(x)
        x = x + self.attn2(y, y if text is None else text)
        return x + self.ff(self.norm3(x))


class Pointwise(nn.Conv1d):
    """What the authors have in place of a linear layer where they leave `use_linear` out: weights of one axis more."""

    def __init__(self, given: int, channels: int) -> None:
        super().__init__(given, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class Transformer(nn.Module):
    """Over the cells of a frame, with text, or over the frames of a cell, without."""

    def __init__(
        self,
        channels: int,
        heads: int,
        text_width: int | None = None,
        linear: Callable[[int, int], nn.Module] = nn.Linear,
    ) -> None:
        super().__init__()
        inner = heads * HEAD_WIDTH
        self.over_time = text_width is None
        self.norm = nn.GroupNorm(GROUPS, channels, eps=1e-6)
        self.proj_in = linear(channels, inner)
        self.transformer_blocks = nn.ModuleList([Block(inner, text_width or inner, heads)])
        self.proj_out = linear(inner, channels)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        # (channels, frames, height, width) of one window.
        _, frames, height, width = x.shape
        if self.over_time:
            tokens = self.norm(x[None])[0].permute(2, 3, 1, 0).flatten(0, 1)
            mixed = self.proj_out(self.transformer_blocks[0](self.proj_in(tokens), None))
            return x + mixed.unflatten(0, (height, width)).permute(3, 2, 0, 1)
        tokens = self.norm(x.transpose(0, 1)).permute(0, 2, 3, 1).flatten(1, 2)
        mixed = self.proj_out(self.transformer_blocks[0](self.proj_in(tokens), text.expand(frames, -1, -1)))
        return x + mixed.unflatten(1, (height, width)).permute(3, 0, 1, 2)


class OverTime(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()

        def stage(*dropout: nn.Module) -> nn.Sequential:
            convolution = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))
            return nn.Sequential(nn.GroupNorm(GROUPS, channels), nn.SiLU(), *dropout, convolution)

        self.conv1, self.conv2 = stage(), stage(nn.Dropout())
        self.conv3, self.conv4 = stage(nn.Dropout()), stage(nn.Dropout())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv4(self.conv3(self.conv2(self.conv1(x[None]))))[0]


class Residual(nn.Module):
    def __init__(self, given: int, channels: int, embedding: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(GROUPS, given), nn.SiLU(), nn.Conv2d(given, channels, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, channels))
        last = nn.Conv2d(channels, channels, 3, padding=1)
        self.out_layers = nn.Sequential(nn.GroupNorm(GROUPS, channels), nn.SiLU(), nn.Dropout(), last)
        self.skip_connection = nn.Identity() if given == channels else nn.Conv2d(given, channels, 1)
        self.temopral_conv = OverTime(channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        frames = x.transpose(0, 1)
        hidden = self.in_layers(frames) + self.emb_layers(embedding)[:, :, None, None]
        return self.temopral_conv((self.skip_connection(frames) + self.out_layers(hidden)).transpose(0, 1))


class Down(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x.transpose(0, 1)).transpose(0, 1)


class Up(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        larger = x.transpose(0, 1).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        return self.conv(larger).transpose(0, 1)


def sinusoid(value: float, width: int) -> Tensor:
    angle = value * 10000 ** (-torch.arange(width // 2) / (width // 2))
    return torch.cat([angle.cos(), angle.sin()])[None]


class Network(nn.Module):
    """`attends` says on which levels, from the finest, there are transformers."""

    def __init__(self, widths: Sequence[int], attends: Sequence[bool], num_layers: int, text_width: int) -> None:
        super().__init__()
        first, embedding = widths[0], 4 * widths[0]

        def mlp() -> nn.Sequential:
            return nn.Sequential(nn.Linear(first, embedding), nn.SiLU(), nn.Linear(embedding, embedding))

        def stage(given: int, level: int) -> list[nn.Module]:
            channels = widths[level]
            heads = channels // HEAD_WIDTH
            transformers = [Transformer(channels, heads, text_width), Transformer(channels, heads)]
            return [Residual(given, channels, embedding), *(transformers if attends[level] else [])]

        self.time_embed, self.fps_embedding = mlp(), mlp()
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(4, first, 3, padding=1)])])
        self.init_attn = nn.ModuleList([Transformer(first, heads=8, linear=Pointwise)])
        channels, kept = first, [first]
        for level, width in enumerate(widths):
            for _ in range(num_layers):
                self.input_blocks.append(nn.ModuleList(stage(channels, level)))
                channels = width
                kept.append(channels)
            if level < len(widths) - 1:
                self.input_blocks.append(nn.ModuleList([Down(channels)]))
                kept.append(channels)
        heads = channels // HEAD_WIDTH
        middle = [Transformer(channels, heads, text_width), Transformer(channels, heads)]
        ends = [Residual(channels, channels, embedding) for _ in range(2)]
        self.middle_block = nn.ModuleList([ends[0], *middle, ends[1]])
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(widths))):
            for layer in range(num_layers + 1):
                layers = stage(channels + kept.pop(), level)
                channels = widths[level]
                larger = [Up(channels)] if level and layer == num_layers else []
                self.output_blocks.append(nn.ModuleList([*layers, *larger]))
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, first), nn.SiLU(), nn.Conv2d(first, 4, 3, padding=1))

    def forward(self, x: Tensor, timestep: int, fps: float, text: Tensor) -> Tensor:
        """Return the prediction for one window (channels, frames, height, width) under a text (tokens, width)."""
        width = self.time_embed[0].in_features
        embedding = self.time_embed(sinusoid(timestep, width)) + self.fps_embedding(sinusoid(fps, width))

        def through(layers: nn.ModuleList, x: Tensor) -> Tensor:
            for layer in layers:
                if isinstance(layer, Residual):
                    x = layer(x, embedding)
                elif isinstance(layer, Transformer):
                    x = layer(x, text)
                elif isinstance(layer, nn.Conv2d):
                    x = layer(x.transpose(0, 1)).transpose(0, 1)
                else:
                    x = layer(x)
            return x

        x = through(self.init_attn, through(self.input_blocks[0], x))
        kept = [x]
        for layers in self.input_blocks[1:]:
            x = through(layers, x)
            kept.append(x)
        x = through(self.middle_block, x)
        for layers in self.output_blocks:
            x = through(layers, torch.cat([x, kept.pop()], dim=0))
        return self.out(x.transpose(0, 1)).transpose(0, 1)


@pytest.fixture(scope="module")
def deep_parts(zeroscope: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ZeroScope in small, of three levels as the checkpoint is; only the settings of its UNet count."""
    parts = Path(shutil.copytree(zeroscope, tmp_path_factory.mktemp("parts") / "zeroscope"))
    config = parts / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | DEEP))
    return parts


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network(widths=(16, 32, 32), attends=(True, True, False), num_layers=2, text_width=16).eval()


@pytest.fixture(scope="module")
def checkpoint(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authors' layout: the network among the other parts and the tables of its training."""
    state: dict[str, Any] = {f"model.diffusion_model.{name}": t for name, t in network.state_dict().items()}
    others = {"first_stage_model.encoder.conv_in.weight": torch.zeros(3), "betas": torch.zeros(5)}
    file = tmp_path_factory.mktemp("checkpoints") / "model.ckpt"
    torch.save({"state_dict": state | others, "epoch": 3}, file)
    return file


def test_the_authors_checkpoint_gives_the_same_network(network, checkpoint, deep_parts, tmp_path) -> None:
    assemble(checkpoint, deep_parts, tmp_path / "model", SETTINGS)
    model = load_model(str(tmp_path / "model"), "cpu", torch.float32)
    schedule, level = model.schedule(10), torch.tensor([6])
    x = torch.randn((1, 4, 5, 8, 8), generator=torch.Generator().manual_seed(1))
    prompts, rows = ["", "a red car"], torch.ones((1, 5), dtype=torch.long)
    x0 = model.denoise(x, level, schedule, model.encode(prompts), rows)
    with torch.no_grad():
        expected = network(x[0], int(schedule.timestep[6]), 24.0, model.text_states(prompts)[1])[None]
    torch.testing.assert_close(x0, to_x0(expected, x, schedule.now(level), "epsilon"), atol=2e-5, rtol=1e-4)


def test_every_tensor_of_the_full_size_network_has_a_name() -> None:
    """The mapping read backwards gives the names of VideoCrafter2's 512x320 checkpoint."""
    with torch.device("meta"):
        unet: Any = UNet3DConditionModel()
    modules = module_names(unet.config)
    theirs = {ours: name for name, ours in modules.items()}
    assert len(theirs) == len(modules)
    for name in unet.state_dict():
        owner = max((ours for ours in theirs if name.startswith(f"{ours}.")), key=len)
        assert library_name(theirs[owner] + name.removeprefix(owner), modules) == name
    assert theirs["up_blocks.1.upsamplers.0.conv"] == "output_blocks.5.3.conv"
    assert theirs["down_blocks.2.downsamplers.0.conv"] == "input_blocks.9.0.op"


AUTHORS = {
    "model_channels": 320,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4],
    "num_head_channels": 64,
    "context_dim": 1024,
}
"""Facts from configs/inference_t2v_512_v2.0.yaml of VideoCrafter2's authors."""
TENSORS, WEIGHTS = 1484, 1413
"""Tensors, and millions of weights, of the network that their own code builds of it."""


def test_the_full_size_checkpoint_fits_the_library_network(monkeypatch) -> None:
    """Nothing is allocated: both networks are on the meta device, theirs after the authors' config, ours by default."""
    monkeypatch.setattr(sys.modules[__name__], "HEAD_WIDTH", AUTHORS["num_head_channels"])
    monkeypatch.setattr(sys.modules[__name__], "GROUPS", 32)
    widths = [AUTHORS["model_channels"] * times for times in AUTHORS["channel_mult"]]
    attends = [2**level in AUTHORS["attention_resolutions"] for level in range(len(widths))]
    with torch.device("meta"):
        theirs = Network(widths, attends, AUTHORS["num_res_blocks"], AUTHORS["context_dim"]).state_dict()
        unet: Any = UNet3DConditionModel()
    assert len(theirs) == TENSORS
    assert sum(tensor.numel() for tensor in theirs.values()) // 10**6 == WEIGHTS
    assert theirs["init_attn.0.proj_in.weight"].shape == (512, 320, 1)
    state = {f"{PREFIX}{name}": tensor for name, tensor in theirs.items()}
    monkeypatch.setattr(convert, "read_pickled", lambda file: {"state_dict": state})
    config = dict(unet.config)
    ours = convert._unpickled(Path("model.ckpt"), config)
    convert._check({name: tuple(tensor.shape) for name, tensor in ours.items()}, config, Path("model.ckpt"))
    assert len(ours) == TENSORS


class Trap:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("sprung",)


def plant(file: Path) -> None:
    file.write_bytes(pickle.dumps({"state_dict": Trap()}, protocol=2))


def test_a_checkpoint_runs_no_code(deep_parts, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    plant(tmp_path / "model.ckpt")
    with pytest.raises(LongtakeError, match=r"model\.ckpt cannot be loaded"):
        assemble(tmp_path / "model.ckpt", deep_parts, tmp_path / "model", SETTINGS)
    assert not (tmp_path / "sprung").exists()


def test_videocrafter1_is_told_apart(checkpoint, deep_parts, tmp_path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    prefix = "model.diffusion_model.input_blocks.1.2.transformer_blocks.0.attn1"
    content["state_dict"][f"{prefix}.relative_position_k.embeddings_table"] = torch.zeros(33, 4)
    torch.save(content, tmp_path / "model.ckpt")
    with pytest.raises(LongtakeError, match="relative_position_k.*VideoCrafter2 does not have"):
        assemble(tmp_path / "model.ckpt", deep_parts, tmp_path / "model", SETTINGS)
