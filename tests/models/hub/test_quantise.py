"""Weights in 8 bits: how far from those that are there, what is refused, and what it is named."""

import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

from longtake.errors import InputError
from longtake.models import load_model, model_spec
from longtake.models.hub.configs import PACKAGES
from longtake.models.hub.offload import HOST, Turns, take_turns

from .test_lora import LAYERS, random_lora, saved, x0

HAS_TORCHAO = importlib.util.find_spec("torchao") is not None
INT8 = pytest.param("int8", marks=pytest.mark.skipif(not HAS_TORCHAO, reason="torchao is not installed"))


@pytest.mark.parametrize("how", ["fp8", INT8])
@pytest.mark.parametrize("name", ["wan_folder", "folder", "latte_folder"])
def test_it_is_nearly_the_same(name: str, how: str, request: pytest.FixtureRequest) -> None:
    folder = str(request.getfixturevalue(name))
    plain, small = load_model(folder), load_model(folder, quantize=how)
    expected, x0_small = x0(plain), x0(small)
    assert x0_small.dtype == expected.dtype and not torch.equal(x0_small, expected)
    # fp8 has three bits after the first, and a UNet's convolutions have them, too.
    most = 0.2 if (name, how) == ("folder", "fp8") else 0.02
    assert ((x0_small - expected).std() / expected.std()).item() < most
    assert small.digest != plain.digest and small.dtype == plain.dtype and small.loading == {"quantize": how}


def test_fp8_is_a_quarter_of_float32(wan_folder: Path) -> None:
    network = load_model(str(wan_folder), quantize="fp8").pipeline.transformer
    blocks = [parameter for name, parameter in network.named_parameters() if "attn" in name and "norm" not in name]
    assert blocks and {parameter.element_size() for parameter in blocks if parameter.ndim == 2} == {1}


def test_a_lora_is_added_before_and_offloading_comes_after(wan_folder: Path, tmp_path: Path) -> None:
    part, layers = LAYERS["wan_folder"]
    lora = saved(tmp_path / "lora.safetensors", part, random_lora(load_model(str(wan_folder)), part, layers, 0), {})
    changed = load_model(str(wan_folder), lora=(str(lora),))
    both = load_model(str(wan_folder), lora=(str(lora),), quantize="fp8")
    assert ((x0(both) - x0(changed)).std() / x0(changed).std()).item() < 0.05
    expected = x0(both)
    take_turns(both.pipeline, ("transformer", "vae", "text_encoder"), "model", Turns(HOST))
    assert torch.equal(x0(both), expected)


@pytest.mark.parametrize("name", ["wan_folder", "ltx_folder"])
def test_another_attention_is_the_same_to_rounding_and_of_this_network_alone(
    name: str, request: pytest.FixtureRequest
) -> None:
    folder = str(request.getfixturevalue(name))
    plain, other = load_model(folder), load_model(folder, attention_backend="_native_math")
    kinds = {processor._attention_backend for processor in other.pipeline.transformer.attn_processors.values()}
    assert AttentionBackendName._NATIVE_MATH in kinds
    assert _AttentionBackendRegistry.get_active_backend()[0] is AttentionBackendName.NATIVE
    torch.testing.assert_close(x0(other), x0(plain), atol=1e-4, rtol=0)
    assert other.digest != plain.digest and other.loading == {"attention_backend": "_native_math"}


COMPILED = """
import sys
import torch
from torch._dynamo.utils import counters
from longtake.models import load_model
from tests.models.hub.test_lora import x0
plain, fast = load_model(sys.argv[1]), load_model(sys.argv[1], compile=True)
torch.testing.assert_close(x0(fast), x0(plain), atol=1e-4, rtol=0)
assert counters["stats"]["unique_graphs"] > 0 and fast.digest != plain.digest
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wan_folder", "ltx_folder"])
def test_compiled_it_is_the_same_to_1e_4(name: str, request: pytest.FixtureRequest) -> None:
    """In a process of its own, where no checks of array shapes are compiled with it."""
    command = [sys.executable, "-c", COMPILED, str(request.getfixturevalue(name))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-800:]


def test_what_does_not_fit_is_refused_with_the_reason(wan_folder: Path, folder: Path) -> None:
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (wan_folder, {"attention_backend": "sage"}, "sage cannot be used here: .*sageattention"),
        (wan_folder, {"attention_backend": "nativ"}, "did you mean 'native'"),
        (wan_folder, {"attention_backend": "flash_hub"}, "there is no attention backend 'flash_hub'"),
        (folder, {"attention_backend": "native"}, "does not fit ModelScope"),
        (folder, {"compile": True}, "--compile does not fit ModelScope"),
    ]
    for model, loading, message in cases:
        with pytest.raises(InputError, match=message):
            load_model(str(model), **loading)


def test_what_cannot_be_quantised_is_refused(wan_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for ask in (model_spec, load_model):
        with pytest.raises(InputError, match="does not fit PVDM"):
            ask("pvdm-sprites", quantize="fp8")
    if not HAS_TORCHAO:
        with pytest.raises(InputError, match="pip install torchao"):
            load_model(str(wan_folder), quantize="int8")
    monkeypatch.setitem(PACKAGES, "torchao", "torch")
    copy = Path(shutil.copytree(wan_folder, tmp_path / "copy"))
    config = copy / "transformer" / "config.json"
    quantised = {"quantization_config": {"quant_method": "torchao"}}
    config.write_text(json.dumps(json.loads(config.read_text()) | quantised))
    for ask in (model_spec, load_model):
        with pytest.raises(InputError, match="is quantised already; leave --quantize out"):
            ask(str(copy), quantize="fp8")


SAVED_BY: dict[str, Callable[[], Any]] = {
    "torchao": lambda: diffusers.TorchAoConfig(importlib.import_module("torchao.quantization").Int8WeightOnlyConfig()),
    "optimum": lambda: diffusers.QuantoConfig(weights_dtype="int8"),
    "bitsandbytes": lambda: diffusers.BitsAndBytesConfig(load_in_8bit=True),
}


@pytest.mark.parametrize("package", SAVED_BY)
def test_a_folder_that_was_saved_in_8_bits_loads(package: str, wan_folder: Path, tmp_path: Path) -> None:
    """What diffusers makes with the package, a folder and what is read of it again."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    if package == "bitsandbytes" and not torch.cuda.is_available():
        pytest.skip("diffusers loads what bitsandbytes makes on a GPU only")
    copy, kind = Path(shutil.copytree(wan_folder, tmp_path / "copy")), diffusers.WanTransformer3DModel
    small: Any = kind.from_pretrained(wan_folder / "transformer", quantization_config=SAVED_BY[package]())
    shutil.rmtree(copy / "transformer")
    small.save_pretrained(copy / "transformer")
    plain, model = load_model(str(wan_folder)), load_model(str(copy))
    expected, found = x0(plain), x0(model)
    assert not torch.equal(found, expected)
    assert ((found - expected).std() / expected.std()).item() < 0.02
