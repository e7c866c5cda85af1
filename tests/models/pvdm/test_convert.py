"""`longtake convert pvdm`: what it takes, what it makes of it, and what it refuses; every name has its place."""

import ast
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.apps.cli import main
from longtake.errors import CheckpointError, InputError, LongtakeError, OutputError
from longtake.models import load_model, model_spec
from longtake.models.pvdm.autoencoder import PvdmAutoencoder
from longtake.models.pvdm.config import AutoencoderConfig, Grid, UnetConfig
from longtake.models.pvdm.convert import (
    autoencoder_config,
    convert_checkpoints,
    is_unet,
    our_autoencoder,
    our_unet,
    unet_config,
)
from longtake.models.pvdm.losses import PatchDiscriminator
from longtake.models.pvdm.unet import PvdmUnet

from .goldens import DATA, golden_autoencoder, our_discriminator, weights


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The two files as the authors' training leaves them, of one size."""
    folder = tmp_path_factory.mktemp("authors")
    autoencoder, unet = weights(DATA, "ae"), weights(DATA, "unet")
    unet["diffusion_model.zeros"] = torch.zeros(1, 4, 144)
    torch.save(autoencoder, folder / "autoencoder.pth")
    torch.save({f"module.{name}": tensor for name, tensor in unet.items()}, folder / "unet.pth")
    return {path.stem: path for path in folder.iterdir()}


def changed(source: Path, target: Path, **changes: Any) -> Path:
    content = torch.load(source, weights_only=True) | changes
    torch.save({name: value for name, value in content.items() if value is not None}, target)
    return target


def test_both_files_make_a_model(checkpoints, tmp_path) -> None:
    lacking = convert_checkpoints([checkpoints["unet"], checkpoints["autoencoder"]], tmp_path / "model", 12.5)
    assert lacking == []
    spec = model_spec(str(tmp_path / "model"))
    assert (spec.num_frames, spec.height, spec.width, spec.fps) == (16, 32, 32, 12.5)
    assert spec.latent_shape == (4, 144)
    assert spec.parameters == 1_016_015 + 876_004
    model: Any = load_model(str(tmp_path / "model"))
    latents = torch.rand(4, 144) * 2 - 1
    with torch.no_grad():
        expected = golden_autoencoder(DATA).decode(latents[None])[0].transpose(0, 1)
    assert torch.allclose(model.decode(latents, None, last=True)[0], expected / 2 + 0.5, atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_one_file_at_a_time(checkpoints, tmp_path) -> None:
    folder = tmp_path / "model"
    assert convert_checkpoints([checkpoints["autoencoder"]], folder, None) == ["unet"]
    assert json.loads((folder / "longtake.json").read_text())["fps"] == 25.0
    with pytest.raises(CheckpointError, match="unet is missing"):
        model_spec(str(folder))
    assert convert_checkpoints([checkpoints["unet"]], folder, 12.5) == []
    spec = model_spec(str(folder))
    assert (spec.latent_shape, spec.fps) == ((4, 144), 12.5)
    assert spec.forward_flops and spec.decode_flops
    with pytest.raises(OutputError, match="exists"):
        convert_checkpoints([checkpoints["unet"]], folder, None)


def test_a_unet_for_other_latents_is_refused(checkpoints, tmp_path) -> None:
    buffer = {"module.diffusion_model.zeros": torch.zeros(1, 4, 9)}
    other = changed(checkpoints["unet"], tmp_path / "other.pth", **buffer)
    with pytest.raises(InputError, match="9 positions, not 144"):
        convert_checkpoints([checkpoints["autoencoder"], other], tmp_path / "model", None)
    with pytest.raises(InputError, match="144 positions, not 2048"):
        convert_checkpoints([checkpoints["unet"]], tmp_path / "model", None)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("autoencoder", {"surprise": torch.zeros(1)}, "has the tensor surprise"),
        ("autoencoder", {"pre_xy.bias": None}, "lacks the tensor pools.time.to_plane.bias"),
        ("autoencoder", {"pre_xy.weight": None}, "neither an autoencoder nor a UNet"),
        ("autoencoder", {"pre_xy.bias": torch.zeros(5)}, "has the shape"),
        ("autoencoder", {"optimizer": {"lr": 1.0}}, "'optimizer', which is no tensor"),
        ("unet", {"module.diffusion_model.out.2.weight": None}, "no UNet of PVDM"),
        ("unet", {"surprise": torch.zeros(1), "module.diffusion_model.zeros": None}, "has the tensor surprise"),
    ],
)
def test_anything_else_is_refused(kind, changes, reason, checkpoints, tmp_path) -> None:
    source = changed(checkpoints[kind], tmp_path / "source.pth", **changes)
    with pytest.raises(LongtakeError, match=reason) as raised:
        convert_checkpoints([source], tmp_path / "model", None)
    assert "\n" not in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.pth"]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", [1, 2], {"model": Path("x")}])
def test_files_that_are_no_tensors(content, tmp_path) -> None:
    source = tmp_path / "source.pth"
    if isinstance(content, bytes):
        source.write_bytes(content)
    else:
        torch.save(content, source)
    with pytest.raises(LongtakeError, match="source.pth") as raised:
        convert_checkpoints([source], tmp_path / "model", None)
    assert "\n" not in str(raised.value)


def test_other_people_s_folders_are_left_alone(checkpoints, tmp_path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    with pytest.raises(OutputError, match="another model"):
        convert_checkpoints([checkpoints["unet"]], tmp_path, None)
    with pytest.raises(OutputError, match="does not exist"):
        convert_checkpoints([checkpoints["unet"]], tmp_path / "no" / "folder", None)


def test_a_unet_without_the_clip_before_is_refused_with_true_advice(checkpoints, tmp_path) -> None:
    """What is trained with cond_model: False reads latents alone, half as many channels."""
    name = next(key for key in torch.load(checkpoints["unet"]) if key.endswith("input_blocks.0.0.weight"))
    first = torch.load(checkpoints["unet"])[name]
    source = changed(checkpoints["unet"], tmp_path / "source.pth", **{name: first[:, : first.shape[1] // 2]})
    with pytest.raises(InputError, match=r"cond_model: False.*give the UNet of a training with cond_model: True"):
        convert_checkpoints([source], tmp_path / "model", None)


def test_two_of_a_kind(checkpoints, tmp_path) -> None:
    copy = Path(shutil.copy(checkpoints["unet"], tmp_path / "copy.pth"))
    with pytest.raises(InputError, match="second unet"):
        convert_checkpoints([*checkpoints.values(), copy], tmp_path / "model", None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "what to convert is missing"),
        (["x.pth", "--fps", "0"], "--fps must be above 0"),
        (["missing.pth"], "missing.pth"),
    ],
)
def test_mistakes_on_the_command_line(arguments, said, monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["longtake", "convert", "pvdm", *arguments])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 2
    assert said in capsys.readouterr().err


def test_command_line(checkpoints, monkeypatch, capsys, tmp_path) -> None:
    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["longtake", "convert", "pvdm", *arguments, "-o", str(tmp_path / "model")])
        with pytest.raises(SystemExit) as leaving:
            main()
        assert leaving.value.code == 0
        return capsys.readouterr().out

    assert "still needs the unet" in run(str(checkpoints["autoencoder"]))
    assert json.loads(run(str(checkpoints["unet"]), "--json"))["lacking"] == []


def official(name: str) -> dict[str, Tensor]:
    """Return tensors without content, of the names and shapes of an official checkpoint."""
    rows = (line.split("\t") for line in (DATA / f"keys_{name}.tsv").read_text().splitlines())
    return {key: torch.empty(ast.literal_eval(shape), device="meta") for key, shape, _ in rows}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_tensor_of_an_autoencoder_has_its_place(prefix: str) -> None:
    theirs = {prefix + name: tensor for name, tensor in official("autoencoder").items()}
    ours = our_autoencoder(theirs)
    assert not is_unet(theirs)
    assert autoencoder_config(ours) == AutoencoderConfig(compat=True)
    with torch.device("meta"):
        network = PvdmAutoencoder(AutoencoderConfig(compat=True))
    network.load_state_dict(ours, assign=True)
    assert len(ours) == len(theirs) - 5


@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_tensor_of_a_unet_has_its_place(prefix: str) -> None:
    theirs = {prefix + name: tensor for name, tensor in official("unet_large").items()}
    ours = our_unet(theirs)
    assert is_unet(theirs)
    assert unet_config(ours, Grid()) == UnetConfig()
    with torch.device("meta"):
        network = PvdmUnet(UnetConfig())
    network.load_state_dict(ours, assign=True)
    assert len(ours) == len(theirs) - 1


@pytest.mark.parametrize("axes", [2, 3])
def test_discriminators(axes: int) -> None:
    with torch.device("meta"):
        network = PatchDiscriminator(axes)
    network.load_state_dict(our_discriminator(official("discriminators"), axes), assign=True)


def test_names_that_are_not_theirs_stay_and_are_found_out() -> None:
    theirs = official("unet_large") | {"diffusion_model.surprise": torch.empty(1)}
    assert "surprise" in our_unet(theirs)


def test_new_discriminators_start_small() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(3, channels=8)
    score, features = network(torch.rand(2, 3, 8, 32, 32))
    assert [feature.shape[1] for feature in features] == [8, 16, 32, 64]
    assert network.stages[0][0].weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert score.shape[:2] == (2, 1)
