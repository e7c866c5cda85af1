"""What VBench's networks and options cannot be is one line, before the video is read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from longtake.errors import CheckpointError, InputError
from longtake.metrics.of_video import Frames
from longtake.metrics.vbench import VBench

from .tiny_vbench import NOISE, Between, Pooled, saved


class Flat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean()


class FlatOfTwo(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x[:, :1]


class Endless(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=[2, 3]) / 0


@pytest.mark.parametrize(
    ("option", "module", "problem"),
    [
        ("dino", Flat(), r"dino.pt returns \(\) in place of \(1, any\)"),
        ("dino", Between(), "dino.pt cannot read clips of shape"),
        ("dino", Endless(), "not finite"),
        ("musiq", Pooled(), r"returns \(1, 48\) in place of \(1, 1\)"),
        ("amt", FlatOfTwo(), r"returns \(1, 1, 32, 48\) in place of \(1, 3, 32, 48\)"),
        ("raft", FlatOfTwo(), r"returns \(1, 1, 24, 40\) in place of \(1, 2, 24, 40\)"),
        ("raft", Pooled(), "raft.pt cannot read"),
        ("viclip", FlatOfTwo(), "does not return features of the video and of the text"),
    ],
)
def test_a_network_of_another_form_is_one_line_before_the_video_is_read(
    tmp_path: Path, clip_folder: Path, option: str, module: nn.Module, problem: str
):
    def frames() -> Iterator[Frames]:
        yield NOISE[:1]
        raise AssertionError("more than the first frames are read")

    given: dict[str, Any] = {option: saved(module, tmp_path / f"{option}.pt")}
    more: dict[str, Any] = {"clip": clip_folder, "prompts": "[0s: a cat]"} if option == "viclip" else {}
    with pytest.raises(CheckpointError, match=problem) as raised:
        VBench(path=tmp_path, **given, **more).judged(frames(), None)
    assert "\n" not in str(raised.value)


def test_dimensions_that_a_single_frame_has_not_are_said(tmp_path: Path) -> None:
    dino = saved(Pooled(), tmp_path / "dino.pt")
    (warning,) = VBench(path=Path("one"), dino=dino).judged(iter([NOISE[:1]]), None)["warnings"]
    assert warning == "one has too few frames for subject consistency, temporal flickering"
    assert VBench(path=Path("two"), dino=dino).judged(iter([NOISE[:2]]), None)["warnings"] == []


def test_junk_is_refused_in_a_few_words(tmp_path: Path) -> None:
    (tmp_path / "junk.pt").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(CheckpointError, match="cannot be loaded as TorchScript") as raised:
        VBench(path=Path("one"), dino=tmp_path / "junk.pt").check()
    assert len(str(raised.value).replace(str(tmp_path), "")) < 200


def no_frames() -> Iterator[Frames]:
    raise AssertionError("the video is read")
    yield NOISE


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"dino": "no.pt"}, "there is no file .*no.pt; --dino takes one, or leave it out"),
        ({"clip": "no"}, "no is no folder; --clip takes one, or leave it out"),
        ({"dino": "text.pt"}, "cannot be loaded as TorchScript"),
        ({"raft": "weights.pth"}, "weights without their network"),
        ({"clip": "half"}, "is no CLIPModel but 'clip_text_model'"),
        ({"clip": "."}, "config.json"),
        ({"aesthetic_clip": "CLIP"}, "--aesthetic-clip has no effect without --aesthetic-head"),
        ({"aesthetic_head": "weights.pth"}, "--aesthetic-head has no effect without --aesthetic-clip"),
        ({"aesthetic_clip": "CLIP", "aesthetic_head": "weights.pth"}, "no linear head over the 8 features"),
        ({"aesthetic_clip": "CLIP", "aesthetic_head": "text.pt"}, "cannot read .*LAION"),
        ({"viclip": "text.pt", "prompts": "[0s: a]"}, "--viclip has no effect without --clip"),
        ({"viclip": "text.pt", "clip": "CLIP"}, "give --prompts"),
        ({"prompts": "a"}, "--prompts has no effect without --clip"),
        ({"device": "cpu"}, "--device has no effect without a network"),
    ],
)
def test_files_and_options_that_cannot_be_are_refused_before_the_video_is_opened(
    tmp_path: Path, clip_folder: Path, options: dict[str, str], problem: str
):
    (tmp_path / "text.pt").write_text("no network")
    torch.save({"weight": torch.zeros(1, 5), "bias": torch.zeros(1)}, tmp_path / "weights.pth")
    CLIPTextModel(CLIPTextConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
                                 vocab_size=9)).save_pretrained(tmp_path / "half")  # fmt: skip
    words = ("prompts", "device")
    given: dict[str, Any] = {
        name: value if name in words else clip_folder if value == "CLIP" else tmp_path / value
        for name, value in options.items()
    }
    with pytest.raises((InputError, CheckpointError), match=problem) as raised:
        VBench(path=tmp_path / "video", **given).judged(no_frames(), None)
    assert "\n" not in str(raised.value)
