"""`longtake check`: its lines, its file, and that it finds what is wrong."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.models.wan.model import WanModel
from tests.models.tiny import OTHERS, TINY

FLOAT32 = ("--device", "cpu", "--dtype", "float32")
NAMES = ["loads", "memory", "network", "decoder"]


def checked(folder: Path, *more: str) -> dict[str, Any]:
    """What a process of its own says, whose memory is its own as well."""
    command = [sys.executable, "-m", "longtake", "check", str(folder), *FLOAT32, "--json", "--overwrite", *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    content = json.loads(done.stdout)
    assert done.returncode == any(answer["status"] == "failed" for answer in content["checks"])
    return content


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TINY["WanTransformer3DModel"](tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in {**TINY, **OTHERS}])
def test_every_tiny_folder_is_as_it_should_be(name: str, tmp_path: Path) -> None:
    content = checked((TINY | OTHERS)[name](tmp_path), "-o", str(tmp_path / "check.json"))
    assert [answer["check"] for answer in content["checks"]] == NAMES
    assert "failed" not in {answer["status"] for answer in content["checks"]}


def test_the_file_has_what_a_bug_report_needs(wan: Path, tmp_path: Path) -> None:
    content = checked(wan, "-o", str(tmp_path / "check.json"), "--quantize", "fp8")
    assert json.loads((tmp_path / "check.json").read_text()) == content
    loads, memory, network, _ = content["checks"]
    assert {answer["status"] for answer in content["checks"]} == {"ok"}
    assert content["model"] == str(wan) and content["loading"] == {"quantize": "fp8"}
    assert content["environment"]["torch"] == torch.__version__ and content["spec"]["num_frames"] == 5
    assert len(loads["digest"]) == 64 and network["pipeline"] == "WanPipeline" and network["difference"] < 1e-4
    assert memory["planned_bytes"] == sum(memory["by_part"].values()) and memory["frames"] == 17


def test_what_is_wrong_fails(longtake: Callable[..., Any], wan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denoise, decode = WanModel.denoise, WanModel.decode

    def early(self: WanModel, x: Any, level: Any, *given: Any) -> Any:
        return denoise(self, x, level - 1, *given)

    def forgetful(self: WanModel, latents: Any, state: Any, last: bool) -> Any:
        return decode(self, latents, None, last)

    monkeypatch.setattr(WanModel, "denoise", early)
    monkeypatch.setattr(WanModel, "decode", forgetful)
    said = longtake("check", str(wan), *FLOAT32)
    lines = said.out.splitlines()
    assert said.status == 1 and "network, decoder" in lines[-1]
    assert lines[2].startswith("network  failed   one call is") and lines[3].startswith("decoder  failed   pieces are")


def test_no_file_of_the_model_is_replaced_by_the_answer(longtake: Callable[..., Any], wan: Path) -> None:
    file = wan / "model_index.json"
    before = file.read_bytes()
    said = longtake("check", str(wan), *FLOAT32, "-o", str(file), "--overwrite")
    assert said.status == 2 and "it is read and would be replaced; choose another -o" in said.err
    assert file.read_bytes() == before


def test_a_folder_that_does_not_load_is_an_answer_and_one_that_is_none_a_mistake(
    longtake: Callable[..., Any], wan: Path, tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(wan, tmp_path / "broken"))
    weights = broken / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["blocks.0.ffn.net.2.weight"] *= torch.nan
    save_file(tensors, weights)
    said = longtake("check", str(broken), *FLOAT32)
    assert said.status == 1 and said.out.startswith("loads    failed   NonFiniteError: ") and said.out.count("\n") == 2
    assert "Traceback" in json.loads(Path("check.json").read_text())["checks"][0]["traceback"]
    for arguments, message in (
        ((), "which model is missing"),
        ((str(wan),), "check.json exists"),
        (("nonsense", "-o", "b.json"), "there is no model"),
        (("nonsense",), "there is no model"),
        ((str(tmp_path),), "holds no model_index.json"),
        ((str(wan), "-o", "no/b.json"), "no does not exist; create it first"),
    ):
        said = longtake("check", *arguments)
        assert said.status == 2 and message in said.err and said.err.count("\n") == 1
