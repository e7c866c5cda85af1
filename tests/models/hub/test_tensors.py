"""Tensors of a model folder that are missing, too many, of another shape or format, or not finite."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.errors import CheckpointError, LongtakeWarning, NonFiniteError
from longtake.models import from_pipe, load_model, model_spec
from longtake.models.hub import files as hub_files

WEIGHTS = Path("unet/diffusion_pytorch_model.safetensors")


def test_missing_tensors_are_not_made_up(copy: Path) -> None:
    tensors = load_file(copy / WEIGHTS)
    del tensors["conv_in.weight"]
    save_file(tensors, copy / WEIGHTS)
    with pytest.raises(CheckpointError, match="lacks 1 tensor, such as conv_in.weight"):
        load_model(str(copy), "cpu", torch.float32)


@pytest.mark.parametrize("part", [WEIGHTS, "text_encoder/model.safetensors"])
def test_a_tensor_too_much_is_left_out_with_a_warning(copy: Path, part: str) -> None:
    digest = load_model(str(copy)).digest
    tensors = load_file(copy / part)
    save_file(tensors | {"extra.weight": torch.zeros(3)}, copy / part, metadata={"format": "pt"})
    said = r"holds 1 tensor, such as extra\.weight, that a network of its config\.json does not have"
    with pytest.warns(LongtakeWarning, match=rf"^{(copy / part).parent} {said}"):
        assert load_model(str(copy)).digest != digest


def test_weights_of_8_bits_are_taken_with_a_warning_and_with_scales_not(copy: Path) -> None:
    tensors = load_file(copy / WEIGHTS)
    short = tensors | {"conv_in.weight": tensors["conv_in.weight"].to(torch.float8_e4m3fn)}
    save_file(short, copy / WEIGHTS, metadata={"format": "pt"})
    said = (
        rf"unet: of its {len(tensors)} tensors 1 are no more exact than 8 bits: conv_in.weight, for one, stored as F8"
    )
    with pytest.warns(LongtakeWarning, match=said):
        load_model(str(copy))
    save_file(short | {"conv_in.scale_weight": torch.ones(())}, copy / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"F8_E4M3 beside a scale \(conv_in.scale_weight\) that its network has"):
        load_model(str(copy))


@pytest.mark.parametrize("part", [WEIGHTS, "text_encoder/model.safetensors"])
def test_a_tensor_that_no_shard_has_is_named(copy: Path, part: str) -> None:
    file = copy / part
    tensors = load_file(file)
    shards = {name: f"{file.stem}-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(tensors)}
    file.unlink()
    (lost, *_), index = tensors, Path(f"{file}.index.json")
    for shard in set(shards.values()):
        held = {name: tensors[name] for name in tensors if shards[name] == shard and name != lost}
        save_file(held, file.with_name(shard), metadata={"format": "pt"})
    index.write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    said = rf"^\S*{shards[lost]} lacks {lost}, which {index.name} says is in it; fetch the model again$"
    for read in (lambda: model_spec(str(copy)).parameters, lambda: load_model(str(copy), "cpu", torch.float32)):
        with pytest.raises(CheckpointError, match=said):
            read()


ONE = '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'


def stored(header: str) -> bytes:
    """Return a safetensors file of this header and one number."""
    return len(header).to_bytes(8, "little") + header.encode() + bytes(4)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty, or cut off"),
        (b"\x02\0\0\0\0\0\0\0[]", "its header lists no tensors"),
        (b'\x0a\0\0\0\0\0\0\0{"a":null}', "its header lists no tensors"),
        (b'\x0d\0\0\0\0\0\0\0{"a":{"b":7}}', "its header lists no tensors"),
        (stored('{"__metadata__":{"a":3},' + ONE + "}"), "its __metadata__ is not texts by their names"),
        (stored('{"__metadata__":[3],' + ONE + "}"), "its __metadata__ is not texts by their names"),
        (stored("{" + ONE + "," + ONE + "}"), "its header names a twice"),
        (stored("{" + ONE.replace("F32", "F99") + "}"), "Error while deserializing header: .*F99.*"),
        (stored("{" + ONE.replace("F32", "F16") + "}"), "Error while deserializing header: .*"),
    ],
)
def test_what_is_wrong_with_a_header_is_said_in_words(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"a.safetensors is not a whole safetensors file \({reason}\); fetch"):
        hub_files.tensor_shapes(file)


@pytest.mark.parametrize("part", [WEIGHTS, "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"])
def test_weights_that_are_not_finite_are_refused(copy: Path, part: str) -> None:
    tensors = load_file(copy / part)
    name = next(name for name, value in tensors.items() if value.is_floating_point())
    tensors[name].view(-1)[-1] = float("nan")
    save_file(tensors, copy / part, metadata={"format": "pt"})
    with pytest.raises(NonFiniteError, match=rf"^[^\n]*{Path(part).parent}: {name} is not finite[^\n]*fetch[^\n]*$"):
        load_model(str(copy))


@pytest.mark.parametrize("part", [WEIGHTS, "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"])
@pytest.mark.parametrize("case", ["whole numbers", "another shape"])
def test_tensors_that_are_not_the_networks_are_refused_before_any_are_read(
    copy: Path, part: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = load_file(copy / part)
    name = next(name for name, value in tensors.items() if value.is_floating_point())
    tensors[name] = tensors[name].int() if case == "whole numbers" else tensors[name][:1].clone()
    save_file(tensors, copy / part, metadata={"format": "pt"})
    monkeypatch.setattr("longtake.models.hub.load.load_part", None)
    said = "is stored as I32, where" if case == "whole numbers" else r"has the shape \[1.*\], where"
    with pytest.raises(CheckpointError, match=rf"^\S*{part}: {name} {said}[^\n]*fetch[^\n]*$"):
        load_model(str(copy))


def test_a_weight_that_is_too_large_for_float16_is_said_to_be_so(copy: Path) -> None:
    tensors = load_file(copy / WEIGHTS)
    tensors["conv_in.bias"][0] = 1e6
    save_file(tensors, copy / WEIGHTS)
    assert load_model(str(copy), "cpu", torch.bfloat16)
    with pytest.raises(NonFiniteError, match=r"unet: conv_in.bias is not finite[^\n]*use --dtype bfloat16 or float32"):
        load_model(str(copy), "cpu", torch.float16)


def test_the_part_of_a_live_pipeline_that_is_not_finite_is_named(folder: Path) -> None:
    pipe = load_model(str(folder)).pipeline
    with torch.no_grad():
        pipe.vae.decoder.conv_out.bias[0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"^the vae of this pipeline: decoder.conv_out.bias is not finite"):
        from_pipe(pipe)
