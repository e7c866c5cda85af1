"""Folders that hold pickled weights, as ZeroScope's on the hub: converted whole, or not at all, and running nothing."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from longtake.apps.cli import main
from longtake.errors import CheckpointError, LongtakeError, OutputError
from longtake.models import load_model, model_spec
from longtake.models.hub.convert import to_safetensors
from longtake.models.modelscope.convert import Assembly, assemble

PLAIN = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "pytorch_model"}


def pickled(folder: Path, output: Path) -> Path:
    """Copy a folder with its weights as .bin alone; those of the text encoder in two shards, two of them tied."""
    shutil.copytree(folder, output)
    for part, stem in PLAIN.items():
        (file,) = (output / part).glob("*.safetensors")
        tensors = load_file(file)
        file.unlink()
        if part != "text_encoder":
            torch.save(tensors, output / part / f"{stem}.bin")
            continue
        names = sorted(tensors)
        shards = {f"{stem}-0000{i + 1}-of-00002.bin": names[i::2] for i in range(2)}
        for shard, held in shards.items():
            alias = {f"tied.{held[0]}": tensors[held[0]]}
            torch.save({name: tensors[name] for name in held} | alias, output / part / shard)
        named = {name: shard for shard, held in shards.items() for name in held}
        (output / part / f"{stem}.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": named}))
    return output


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Any, str, str]]:
    """Run a command in this process: exit status, output, errors."""

    def command(*arguments: str) -> tuple[Any, str, str]:
        monkeypatch.setattr("sys.argv", ["longtake", *arguments])
        with pytest.raises(SystemExit) as leaving:
            main()
        return leaving.value.code, *capsys.readouterr()

    return command


def test_the_refusal_names_the_command_that_helps(run, folder, tmp_path) -> None:
    source = pickled(folder, tmp_path / "bin")
    status, _, err = run("plan", "a car", "--model", str(source), "--sampler", "chunked")
    assert status == 2 and f"longtake convert safetensors {source} -o OUT" in err and err.count("\n") == 1
    status, out, _ = run("convert", "safetensors", str(source), "-o", str(tmp_path / "model"), "--json")
    assert status == 0 and json.loads(out)["folder"] == str(tmp_path / "model")
    assert run("plan", "a car", "--model", str(tmp_path / "model"), "--sampler", "chunked")[0] == 0


@pytest.mark.filterwarnings("ignore::longtake.errors.LongtakeWarning")
def test_weights_and_settings_stay_what_they_are(folder, tmp_path) -> None:
    to_safetensors(str(pickled(folder, tmp_path / "bin")), tmp_path / "model")
    assert not list((tmp_path / "model").rglob("*.bin*"))
    assert json.loads((tmp_path / "model" / "longtake.json").read_text())["clean_frames"] is True
    ours, theirs = load_model(str(tmp_path / "model")), load_model(str(folder))
    for part in PLAIN:
        expected = getattr(theirs.pipeline, part).state_dict()
        found = getattr(ours.pipeline, part).state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_parts_of_videocrafter2_may_be_pickled(videocrafter2_unet, zeroscope, tmp_path) -> None:
    parts, settings = pickled(zeroscope, tmp_path / "bin"), Assembly(height=16, width=16)
    assemble(videocrafter2_unet, parts, tmp_path / "model", settings)
    assemble(videocrafter2_unet, zeroscope, tmp_path / "plain", settings)
    assert not list((tmp_path / "model").rglob("*.bin*"))
    weights = "vae/diffusion_pytorch_model.safetensors"
    found, expected = (load_file(tmp_path / place / weights) for place in ("model", "plain"))
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


class Trap:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("sprung",)


def no_tensor(vae: Path, source: Path) -> None:
    torch.save({"a": torch.zeros(2), "b": 3}, vae)


def another_network(vae: Path, source: Path) -> None:
    config = source / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"in_channels": 5}))


BAD: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "code": (lambda vae, _: vae.write_bytes(pickle.dumps({"a": Trap()}, protocol=2)), "cannot be loaded"),
    "cut": (lambda vae, _: os.truncate(vae, 1000), "cannot be loaded"),
    "no names": (lambda vae, _: torch.save([torch.zeros(2)], vae), "no tensors by name"),
    "no tensor": (no_tensor, "holds 'b', which is no tensor"),
    "no weights": (lambda vae, _: vae.unlink(), "no model came of it: .*model/vae holds no"),
    "another network": (another_network, "no model came of it: .*5 in_channels"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_failure_leaves_nothing(folder, tmp_path, monkeypatch, case) -> None:
    monkeypatch.chdir(tmp_path)
    source = pickled(folder, tmp_path / "bin")
    spoil, message = BAD[case]
    spoil(source / "vae" / "diffusion_pytorch_model.bin", source)
    with pytest.raises(LongtakeError, match=message) as caught:
        to_safetensors(str(source), tmp_path / "model")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_a_failed_assembly_leaves_nothing(videocrafter2_unet, zeroscope, tmp_path) -> None:
    parts = pickled(zeroscope, tmp_path / "bin")
    (parts / "vae" / "diffusion_pytorch_model.bin").unlink()
    with pytest.raises(CheckpointError, match="no model came of it"):
        assemble(videocrafter2_unet, parts, tmp_path / "model", Assembly(height=16, width=16))
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_nothing_is_written_over(folder, tmp_path) -> None:
    with pytest.raises(OutputError, match="exists"):
        to_safetensors(str(folder), tmp_path)
    assert model_spec(str(folder)) and not list(tmp_path.iterdir())
