"""A transformer in a file by itself, as ComfyUI and trainers pass it on, beside the other parts of a folder."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from longtake.errors import InputError, LongtakeError
from longtake.models import load_model, model_spec

from .test_lora import LAYERS, random_lora, saved, x0

# What the authors of Wan call the layers, and diffusers.
NAMES = {
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "attn1": "self_attn",
    "attn2": "cross_attn",
    ".to_out.0.": ".o.",
    ".to_q.": ".q.",
    ".to_k.": ".k.",
    ".to_v.": ".v.",
    "proj_out": "head.head",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    "norm2": "norm3",
}


def theirs(name: str) -> str:
    """The authors' name of a tensor."""
    for ours, their in NAMES.items():
        name = name.replace(ours, their)
    if name == "scale_shift_table":
        return "head.modulation"
    return name.replace("scale_shift_table", "modulation")


@pytest.fixture(scope="module")
def tensors(wan_folder: Path) -> dict[str, Tensor]:
    return load_file(wan_folder / "transformer" / "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def base(wan_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder without the weights of its transformer."""
    copy = Path(shutil.copytree(wan_folder, tmp_path_factory.mktemp("models") / "base"))
    (copy / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    return copy


@pytest.fixture(scope="module")
def file(tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ComfyUI's layout: the authors' names under a prefix."""
    path = tmp_path_factory.mktemp("comfy") / "wan_tiny_fp32.safetensors"
    save_file({f"model.diffusion_model.{theirs(name)}": tensor for name, tensor in tensors.items()}, path)
    return path


def test_it_is_the_model_of_the_folder(file: Path, base: Path, wan_folder: Path) -> None:
    whole, model = load_model(str(wan_folder)), load_model(str(file), base=str(base))
    assert torch.equal(x0(model), x0(whole))
    spec = model_spec(str(file), base=str(base))
    assert spec == model.spec and spec.name == "wan_tiny_fp32" and spec.parameters == whole.spec.parameters
    assert model.origin == str(file) and model.loading == {"base": str(base)}
    half, other = (
        load_model(str(path), dtype=torch.bfloat16, **given)
        for path, given in ((file, {"base": str(base)}), (wan_folder, {}))
    )
    kinds = [
        {name: tensor.dtype for name, tensor in each.pipeline.transformer.named_parameters()} for each in (half, other)
    ]
    assert kinds[0] == kinds[1] and torch.equal(x0(half), x0(other))


def test_diffusers_own_names_and_8_bits_are_read_and_the_digest_is_the_contents(
    file: Path, base: Path, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    plain, small, copy = (tmp_path / f"{name}.safetensors" for name in ("plain", "small", "copy"))
    save_file(tensors, plain)
    save_file({name: tensor.to(torch.float8_e4m3fn) for name, tensor in tensors.items()}, small)
    shutil.copy(file, copy)
    first, named, rounded, again = (load_model(str(path), base=str(base)) for path in (file, plain, small, copy))
    assert torch.equal(x0(named), x0(first)) and first.digest == again.digest
    assert {weight.dtype for weight in rounded.pipeline.transformer.parameters()} == {torch.float32}
    assert 0 < ((x0(rounded) - x0(first)).std() / x0(first).std()).item() < 0.1
    assert len({model.digest for model in (first, named, rounded)}) == 3


def test_a_lora_is_added_to_it(file: Path, base: Path, wan_folder: Path, tmp_path: Path) -> None:
    part, layers = LAYERS["wan_folder"]
    lora = str(
        saved(tmp_path / "lora.safetensors", part, random_lora(load_model(str(wan_folder)), part, layers, 0), {})
    )
    model, whole = load_model(str(file), base=str(base), lora=(lora,)), load_model(str(wan_folder), lora=(lora,))
    assert torch.equal(x0(model), x0(whole))


REFUSED: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = {
    "umt5_xxl_fp8_e4m3fn_scaled": (
        lambda own: {
            "shared.weight": torch.zeros(4),
            "encoder.block.0.layer.0.SelfAttention.q.scale_weight": torch.ones(1),
        },
        "is a text encoder .scaled fp8 of ComfyUI's layout, which no pipeline of diffusers reads",
    ),
    "umt5_xxl_fp16": (lambda own: {"shared.weight": torch.zeros(4)}, "is a text encoder .a single file"),
    "wan_fp8_scaled": (lambda own: own | {"scaled_fp8": torch.zeros(2)}, "scaled fp8 of ComfyUI's layout"),
    "wan_vae": (lambda own: {"decoder.conv1.weight": torch.zeros(4)}, "is an autoencoder"),
    "a_lora": (lambda own: {"blocks.0.lora_A.weight": torch.zeros(4)}, "is a LoRA"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_transformer_is_refused_by_its_name(
    name: str, base: Path, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    make, message = REFUSED[name]
    path = tmp_path / f"{name}.safetensors"
    save_file(make(dict(tensors)), path)
    for loading in ({"base": str(base)}, {}):
        with pytest.raises(InputError, match=message) as caught:
            model_spec(str(path), **loading)
        assert "\n" not in str(caught.value)


def test_what_does_not_fit_is_one_line(file: Path, base: Path, folder: Path, tensors: Any, tmp_path: Path) -> None:
    lacking, gguf = tmp_path / "lacking.safetensors", tmp_path / "wan.gguf"
    save_file({name: tensor for name, tensor in tensors.items() if "blocks.1" not in name}, lacking)
    gguf.write_bytes(b"GGUF")
    cases: list[tuple[str, dict[str, Any], str]] = [
        (str(file), {}, "give --base the folder or hub id of its pipeline"),
        (str(base), {"base": str(base)}, "is no file, so --base has no effect"),
        ("sprites", {"base": str(base)}, "--base has no effect on the model sprites"),
        (str(file), {"base": str(folder)}, "has not one transformer"),
        (str(file), {"base": str(file)}, "give --base the folder"),
        (str(lacking), {"base": str(base)}, "is not all of a WanTransformer3DModel"),
    ]
    if importlib.util.find_spec("gguf") is None:
        cases.append((str(gguf), {"base": str(base)}, "pip install gguf"))
    for name, loading, message in cases:
        with pytest.raises(LongtakeError, match=message) as caught:
            load_model(name, **loading)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="gguf is not installed")
def test_gguf_is_read_where_its_package_is(base: Path, wan_folder: Path, tensors: Any, tmp_path: Path) -> None:
    import gguf

    path = tmp_path / "wan-q8.gguf"
    writer = gguf.GGUFWriter(str(path), "wan")
    for name, tensor in tensors.items():
        array = tensor.float().numpy()
        is_small = tensor.ndim != 2 or tensor.shape[1] % 32 or "embedder" in name or "proj_out" in name
        kind = gguf.GGMLQuantizationType.F32 if is_small else gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(theirs(name), array if is_small else gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    whole, model = load_model(str(wan_folder)), load_model(str(path), base=str(base))
    assert 0 < ((x0(model) - x0(whole)).std() / x0(whole).std()).item() < 0.02
    with pytest.raises(InputError, match="quantised already"):
        load_model(str(path), base=str(base), quantize="fp8")
