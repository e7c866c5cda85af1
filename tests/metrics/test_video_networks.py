from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from longtake.data.sprites import Shot, SpriteWorld
from longtake.errors import CheckpointError
from longtake.metrics.video_networks import (
    i3d_input,
    script_classes,
    script_features,
    stand_in_classes,
    stand_in_features,
)

from .goldens import GOLDENS

CLIPS = np.random.default_rng(0).integers(0, 256, (2, 16, 20, 28, 3), dtype=np.uint8)


class AskedScript(nn.Module):
    """Takes the arguments of the published I3D script."""

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        assert rescale and resize and return_features
        return x.mean(dim=[2, 3, 4])


class PlainScript(nn.Module):
    """Returns shape, least and greatest value of what it gets."""

    def forward(self, x: Tensor) -> Tensor:
        told = torch.tensor(
            [float(x.size(1)), float(x.size(2)), float(x.size(3)), float(x.size(4)), float(x.min()), float(x.max())]
        )
        return told.repeat(x.shape[0], 1)


class Classes(nn.Module):
    def __init__(self, *, softmax: bool) -> None:
        super().__init__()
        self.softmax = softmax

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean(dim=[2, 3, 4]) / 10
        return means.softmax(dim=1) if self.softmax else means


def saved(module: nn.Module, path: Path) -> Path:
    with pytest.warns(DeprecationWarning):
        torch.jit.save(torch.jit.script(module), str(path))
    return path


def test_a_script_that_scales_by_itself_gets_pixels(tmp_path: Path):
    network = script_features(saved(AskedScript(), tmp_path / "i3d.pt"), "cpu")
    np.testing.assert_allclose(network.read(CLIPS), CLIPS.mean((1, 2, 3)), rtol=1e-4)
    assert network.name == "i3d.pt" and network.digest is not None and len(network.digest) == 64


def test_any_other_script_gets_what_i3d_was_trained_on(tmp_path: Path):
    rows = script_features(saved(PlainScript(), tmp_path / "plain.pt"), "cpu").read(CLIPS)
    assert rows.shape == (2, 6) and list(rows[0, :4]) == [3, 16, 224, 224]
    assert -1 <= rows[0, 4] < -0.8 and 0.8 < rows[0, 5] <= 1


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda golden: str(golden[0]))
def test_that_is_the_authors_arithmetic(golden):
    _, arrays = golden
    expected = torch.from_numpy(arrays["fvd_pre_out"][0]).transpose(0, 1)
    found = i3d_input(arrays["fvd_pre_in"][0], size=expected.shape[-1])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_tall_clip_is_cut_in_the_middle():
    clip = np.zeros((1, 40, 20, 3), np.uint8)
    clip[:, 10:30] = 255
    assert i3d_input(clip, size=20).min() == 1


def test_a_classifier_must_return_probabilities(tmp_path: Path):
    rows = script_classes(saved(Classes(softmax=True), tmp_path / "c3d.pt"), "cpu").read(CLIPS)
    assert rows.shape == (2, 3) and rows.sum(axis=1) == pytest.approx([1, 1])
    with pytest.raises(CheckpointError, match="no probabilities"):
        script_classes(saved(Classes(softmax=False), tmp_path / "logits.pt"), "cpu").read(CLIPS)


class Refuses(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(3, 1)


class Flat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean()


@pytest.mark.parametrize(("module", "problem"), [(Refuses(), "cannot read clips of shape"), (Flat(), "one row")])
def test_a_script_that_does_not_fit_is_one_line(tmp_path: Path, module: nn.Module, problem: str):
    with pytest.raises(CheckpointError, match=problem) as raised:
        script_features(saved(module, tmp_path / "bad.pt"), "cpu").read(CLIPS)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_neither_torchscript_nor_known_weights_is_refused(tmp_path: Path):
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="holds the weights of neither I3D nor C3D; give those, or TorchScript"):
        script_features(path, "cpu")
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be loaded as TorchScript"):
        script_features(path, "cpu")


def test_the_stand_in_sees_looks_and_motion_in_clips_of_any_length():
    clip = SpriteWorld(3, {0: Shot(object="robot", scene="meadow", motion="circles")}).frames(0, 32)
    network = stand_in_features()
    rows = network.read(np.stack([clip[:16], np.repeat(clip[:1], 16, axis=0)]))
    assert rows.shape == (2, 384) and rows.dtype == np.float32
    assert np.abs(rows[0, 128:] - rows[1, 128:]).mean() > 0.1
    assert network.read(clip[None]).shape == (1, 384)
    enlarged = clip[None, :16].repeat(3, axis=2).repeat(3, axis=3)
    np.testing.assert_allclose(network.read(enlarged), rows[:1], rtol=1e-4, atol=1e-5)


def test_the_stand_in_classifier_names_the_object():
    clips = [
        SpriteWorld(3, {0: Shot(object=name, scene="sea", motion="pulses")}).frames(0, 20) for name in ("fish", "robot")
    ]
    rows = stand_in_classes().read(np.stack(clips))
    assert rows.shape == (2, 17) and rows.max(axis=1).min() > 0.5
    assert rows.argmax(axis=1)[0] != rows.argmax(axis=1)[1]
