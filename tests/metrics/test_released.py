from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from longtake.errors import CheckpointError
from longtake.metrics.released import C3d, I3d, network_of
from longtake.metrics.video_networks import c3d_input, i3d_input, script_classes, script_features

CLIP = np.random.default_rng(0).integers(0, 256, (1, 16, 40, 52, 3), dtype=np.uint8)


def shaken(network: nn.Module) -> nn.Module:
    """The network with weights at random, its running means too."""
    torch.manual_seed(0)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_()
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
    return network.eval()


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_weights_of_i3d_give_what_their_script_gives(tmp_path: Path):
    network = shaken(I3d())
    # As few frames as it takes.
    clips = CLIP[:, :9]
    clip = i3d_input(clips[0]).transpose(0, 1)[None]
    with torch.no_grad():
        torch.jit.trace(network, clip, check_trace=False).save(tmp_path / "script.pt")
    torch.save({f"module.{name}": tensor for name, tensor in network.state_dict().items()}, tmp_path / "i3d.pt")
    save_file(weights(network), tmp_path / "i3d.safetensors")
    script, *files = (
        script_features(tmp_path / name, "cpu").read(clips) for name in ("script.pt", "i3d.pt", "i3d.safetensors")
    )
    assert script.shape == (1, 400) and script.std() > 0
    for rows in files:
        np.testing.assert_allclose(rows, script, atol=1e-5)


def test_i3d_has_the_size_and_the_steps_of_the_paper():
    with torch.device("meta"):
        network = I3d()
        shapes = [tuple(network(torch.empty(2, 3, frames, 224, 224)).shape) for frames in (16, 64)]
    # 12.7 million beside the 1024 x 400 + 400 of the classes, as the paper's table 1 and the common file have it.
    assert shapes == [(2, 400)] * 2 and sum(p.numel() for p in network.parameters()) == 12_697_264


def test_weights_of_c3d_are_read(tmp_path: Path):
    with torch.device("meta"):
        network = C3d(11)
    torch.manual_seed(0)
    given = {name: torch.empty(tensor.shape).uniform_(-0.035, 0.035) for name, tensor in network.state_dict().items()}
    save_file(given, tmp_path / "c3d.safetensors")
    again = network_of(given, "here")
    with torch.no_grad():
        expected = again(c3d_input(CLIP[0]).transpose(0, 1)[None]).numpy()
    rows = script_classes(tmp_path / "c3d.safetensors", "cpu").read(CLIP)
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    assert rows.shape == (1, 11) and rows.sum() == pytest.approx(1, abs=1e-5)


def test_other_weights_and_missing_ones_are_one_line(tmp_path: Path):
    with torch.device("meta"):
        whole = {name: torch.empty(one.shape) for name, one in C3d(5).state_dict().items()}
    for tensors, reason in (
        ({"a": torch.zeros(1)}, "neither I3D nor C3D"),
        ({name: one for name, one in whole.items() if name != "fc6.bias"}, "no C3D: fc6.bias is missing"),
        (whole | {"conv1.bias": torch.empty(3)}, "no C3D: conv1.bias is missing, of another shape"),
    ):
        with pytest.raises(CheckpointError, match=reason):
            network_of(tensors, "file")
    (tmp_path / "text.pt").write_text("text")
    with pytest.raises(CheckpointError, match="cannot be loaded as TorchScript .* or weights of I3D or C3D"):
        script_features(tmp_path / "text.pt", "cpu")
