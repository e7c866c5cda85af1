"""What is read from a model folder before loading it, and what is said of folders that cannot be used."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.errors import CheckpointError, InputError, LongtakeError, LongtakeWarning, NonFiniteError
from longtake.model import Continuation, Infill, PerFrameNoise, TemporalHooks
from longtake.models import from_pipe, load_model, model_spec
from longtake.models.hub import files as hub_files
from longtake.models.hub.files import digest


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def edit(file: Path, **changes: Any) -> None:
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


def test_the_spec_tells_what_the_loaded_model_is(folder: Path) -> None:
    spec = model_spec(str(folder))
    model = load_model(str(folder), "cpu", torch.float32)
    assert (spec.name, spec.width, spec.height, spec.fps, spec.guidance) == ("tiny", 16, 16, 8, 3)
    assert spec.latent_shape == (4, 8, 8, 8)
    parts = (model.pipeline.unet, model.pipeline.vae, model.pipeline.text_encoder)
    assert spec.parameters == sum(tensor.numel() for part in parts for tensor in part.parameters())
    assert spec.capabilities == {PerFrameNoise, TemporalHooks, Infill, Continuation}
    assert model.spec == spec


def test_a_folder_without_extras_has_the_stock_pipelines_defaults(copy: Path) -> None:
    (copy / "longtake.json").unlink()
    spec = model_spec(str(copy))
    assert (spec.num_frames, spec.fps, spec.guidance, spec.clean_frames) == (16, 8.0, 9.0, False)
    assert spec.capabilities == {PerFrameNoise, TemporalHooks} and spec.vocabulary is None


def test_reading_a_folder_loads_no_torch(folder: Path) -> None:
    code = f"import sys; from longtake.models import model_spec; model_spec({str(folder)!r});"
    code += "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_parts_can_come_from_a_folder_beside(copy: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    shutil.copy(copy / "model_index.json", small)
    shutil.copytree(copy / "unet", small / "unet")
    (small / "longtake.json").write_text(json.dumps({"shared": "../copy", "num_frames": 8}))
    assert model_spec(str(small)).parameters == model_spec(str(copy)).parameters
    assert load_model(str(small)).digest == load_model(str(copy)).digest


def test_shards_and_half_precision_variants_are_found(folder: Path, copy: Path) -> None:
    parts = load_model(str(folder)).pipeline
    shutil.rmtree(copy / "unet")
    parts.unet.save_pretrained(copy / "unet", max_shard_size="200KB")
    assert len(list((copy / "unet").glob("*.safetensors"))) > 1
    shutil.rmtree(copy / "vae")
    parts.vae.save_pretrained(copy / "vae", variant="fp16")
    assert model_spec(str(copy)).parameters == model_spec(str(folder)).parameters
    again = load_model(str(copy)).pipeline
    for old, new in zip(parts.unet.parameters(), again.unet.parameters(), strict=True):
        assert torch.equal(old, new)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def lacking_shard(file: Path, of: int = 2) -> Path:
    """Put the weights in the first of so many shards; a folder that is half downloaded has no others."""
    names = [f"model-{number + 1:05}-of-{of:05}.safetensors" for number in range(of)]
    file.rename(file.with_name(names[0]))
    index = {"weight_map": {f"tensor {number}": name for number, name in enumerate(names)}}
    (file.parent / f"{file.stem}.safetensors.index.json").write_text(json.dumps(index))
    return file.with_name(names[0])


def overlong_header(file: Path) -> None:
    file.write_bytes((1 << 62).to_bytes(8, "little") + file.read_bytes()[8:])


def pipe_at(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


WEIGHTS = Path("unet/diffusion_pytorch_model.safetensors")

BAD: dict[str, tuple[Callable[[Path], Any], type[LongtakeError], str]] = {
    "another pipeline": (
        lambda folder: edit(folder / "model_index.json", _class_name="StableDiffusionPipeline"),
        InputError,
        "StableDiffusionPipeline, which makes no videos",
    ),
    "another network": (
        lambda folder: edit(folder / "model_index.json", unet=["diffusers", "UNetMotionModel"]),
        InputError,
        "UNetMotionModel as unet.*UNet3DConditionModel",
    ),
    "another network inside": (
        lambda folder: edit(folder / "unet" / "config.json", _class_name="UNet2DModel"),
        InputError,
        "UNet2DModel.*UNet3DConditionModel",
    ),
    "class unnamed": (
        lambda folder: edit(folder / "model_index.json", _class_name=...),
        CheckpointError,
        "model_index.json: _class_name cannot be None",
    ),
    "index broken": (lambda folder: (folder / "model_index.json").write_text("{"), CheckpointError, "not valid JSON"),
    "index a list": (lambda folder: (folder / "model_index.json").write_text("[]"), CheckpointError, "no JSON object"),
    "index not text": (lambda f: (f / "model_index.json").write_bytes(b"\xff\xfe\x00"), CheckpointError, "JSON"),
    "index missing": (lambda folder: (folder / "model_index.json").unlink(), InputError, "holds no model_index.json"),
    "part missing": (lambda folder: shutil.rmtree(folder / "vae"), CheckpointError, "vae is missing"),
    "size missing": (lambda f: edit(f / "unet" / "config.json", sample_size=...), CheckpointError, "sample_size"),
    "channels odd": (lambda f: edit(f / "vae" / "config.json", block_out_channels=3), CheckpointError, "block_out"),
    "weights missing": (lambda folder: (folder / WEIGHTS).unlink(), CheckpointError, "holds no diffusion_"),
    "weights pickled": (lambda f: (f / WEIGHTS).rename(f / "unet" / "weights.bin"), CheckpointError, "can run code"),
    "shard missing": (
        lambda folder: lacking_shard(folder / WEIGHTS),
        CheckpointError,
        "model-00002-of-00002.safetensors is missing; fetch",
    ),
    "shard cut": (lambda folder: cut(lacking_shard(folder / WEIGHTS, 1)), CheckpointError, "shorter or longer"),
    "weights cut": (lambda folder: cut(folder / WEIGHTS), CheckpointError, "unet.*fetch"),
    "weights empty": (lambda folder: (folder / WEIGHTS).write_bytes(b""), CheckpointError, "safetensors"),
    "header overlong": (lambda folder: overlong_header(folder / WEIGHTS), CheckpointError, "longer than the file"),
    "field misspelt": (
        lambda f: edit(f / "longtake.json", guidence=3),
        CheckpointError,
        "there is no field 'guidence'; did you mean 'guidance'?",
    ),
    "guidance learnt below 1": (
        lambda f: edit(f / "longtake.json", learnt_guidance=-1),
        CheckpointError,
        "longtake.json: learnt_guidance is -1, which it cannot be; it takes a number above 1$",
    ),
    "guidance learnt of nothing": (
        lambda f: edit(f / "longtake.json", learnt_guidance=1),
        CheckpointError,
        "learnt_guidance is 1, which it cannot be; it takes a number above 1$",
    ),
    "guidance learnt of no text": (
        lambda f: edit(f / "longtake.json", learnt_guidance=0),
        CheckpointError,
        "learnt_guidance is 0, which it cannot be; it takes a number above 1$",
    ),
    "guidance below 0": (
        lambda f: edit(f / "longtake.json", guidance=-1),
        CheckpointError,
        "guidance is -1, which it cannot be; it takes 0 or more$",
    ),
    "fps of nothing": (
        lambda f: edit(f / "longtake.json", fps=0),
        CheckpointError,
        "fps is 0, which it cannot be; it takes a number above 0$",
    ),
    "window of nothing": (
        lambda f: edit(f / "longtake.json", num_frames=0),
        CheckpointError,
        "num_frames is 0, which it cannot be; it takes 1 or more$",
    ),
    "operations below 0": (
        lambda f: edit(f / "longtake.json", forward_flops=-5),
        CheckpointError,
        "forward_flops is -5, which it cannot be; it takes 1 or more$",
    ),
    "shared missing": (
        lambda f: edit(f / "longtake.json", shared="../nowhere"),
        CheckpointError,
        "nowhere is missing; put the folder there that .*longtake.json shares parts with$",
    ),
    "shared with itself": (
        lambda f: edit(f / "longtake.json", shared=f"../{f.name}"),
        CheckpointError,
        "longtake.json: shared is this folder itself; name another one beside it$",
    ),
    "shared a number": (
        lambda f: edit(f / "longtake.json", shared=3),
        CheckpointError,
        "shared is 3; it takes the name of a folder beside it$",
    ),
    "field unknown": (
        lambda f: edit(f / "longtake.json", speed=3),
        CheckpointError,
        "longtake.json: there is no field 'speed'",
    ),
    "field of another type": (lambda f: edit(f / "longtake.json", fps="8"), CheckpointError, 'fps is "8"'),
    "field negative": (lambda f: edit(f / "longtake.json", num_frames=-1), CheckpointError, "num_frames is -1"),
    "path up": (lambda f: edit(f / "longtake.json", shared="../../etc"), CheckpointError, "leads out of the folder"),
    "path absolute": (lambda f: edit(f / "longtake.json", shared="/etc"), CheckpointError, "leads out of the folder"),
    "path to nothing": (lambda f: edit(f / "longtake.json", shared="../gone"), CheckpointError, "gone is missing"),
    "tensors of another shape": (
        lambda folder: edit(folder / "unet" / "config.json", block_out_channels=[16, 16]),
        CheckpointError,
        r"unet.*safetensors: \S+ has the shape \[.*\], where its config.json asks for \[.*\]; fetch",
    ),
    "prediction unknown": (
        lambda folder: edit(folder / "scheduler" / "scheduler_config.json", prediction_type="flow"),
        CheckpointError,
        "prediction_type",
    ),
    "betas unknown": (
        lambda folder: edit(folder / "scheduler" / "scheduler_config.json", beta_schedule="steep"),
        CheckpointError,
        "steep",
    ),
    "tokenizer of a foreign class": (
        lambda folder: edit(folder / "model_index.json", tokenizer=["my_code", "Evil"]),
        InputError,
        "tokenizer is of a 'Evil', which transformers .* does not have",
    ),
    "scheduler of a foreign class": (
        lambda folder: edit(folder / "scheduler" / "scheduler_config.json", _class_name="MyScheduler"),
        InputError,
        "scheduler_config.json is of a 'MyScheduler', which diffusers .* does not have",
    ),
    "quantised without its library": (
        lambda folder: edit(folder / "unet" / "config.json", quantization_config={"quant_method": "bitsandbytes"}),
        CheckpointError,
        "unet/config.json is quantised by bitsandbytes, which is not installed; pip install bitsandbytes",
    ),
    "endless network": (
        lambda folder: edit(folder / "unet" / "config.json", layers_per_block=10**6),
        CheckpointError,
        "unet/config.json: layers_per_block cannot be 1000000",
    ),
    "pipe": (
        lambda f: os.mkfifo(f / "vae" / "pipe"),
        CheckpointError,
        "vae/pipe cannot be read .it is a pipe or a device",
    ),
    "pipe for extras": (lambda f: pipe_at(f / "longtake.json"), CheckpointError, "longtake.json cannot be read"),
    "tokenizer broken": (lambda f: (f / "tokenizer" / "tokenizer.json").write_text("{"), CheckpointError, "tokenizer"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_folder_is_refused_in_one_line(copy: Path, case: str) -> None:
    spoil, kind, message = BAD[case]
    spoil(copy)
    with pytest.raises(kind, match=message) as caught:
        load_model(str(copy), "cpu", torch.float32)
    assert "\n" not in str(caught.value)


def test_weights_that_nothing_here_reads_are_known_without_torch(copy: Path) -> None:
    edit(copy / "unet" / "config.json", quantization_config={"quant_method": "bitsandbytes"})
    code = f"import sys; from longtake.models import model_spec\ntry: model_spec({str(copy)!r})\n"
    code += (
        "except Exception as error: assert 'pip install bitsandbytes' in str(error)\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_shard_may_not_lie_elsewhere(copy: Path) -> None:
    (copy / WEIGHTS).rename(copy / "stolen.safetensors")
    index = copy / f"{WEIGHTS}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"conv_in.weight": "../stolen.safetensors"}}))
    with pytest.raises(CheckpointError, match="leads out of the folder"):
        model_spec(str(copy))


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


def test_hashes_of_large_files_are_remembered(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = digest([copy / "unet"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(hub_files, "CACHED_FROM_BYTES", 1)
    assert digest([copy / "unet"]) == fresh
    known = json.loads((tmp_path / "cache" / "longtake" / "digests.json").read_text())
    assert len(known) == 2
    monkeypatch.setattr(hub_files.hashlib, "file_digest", None)
    assert digest([copy / "unet"]) == fresh


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


def test_a_tokenizer_without_a_length_has_that_of_the_encoder(copy: Path, folder: Path) -> None:
    edit(copy / "tokenizer" / "tokenizer_config.json", model_max_length=...)
    prompts = ["", "a red car"]
    given, lacking = (load_model(str(place)).encode(prompts).rows["text"] for place in (folder, copy))
    assert torch.equal(given, lacking)


def test_loading_draws_nothing_on_the_terminal(copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_model(str(copy)).pipeline.unet.save_pretrained(copy / "sharded", max_shard_size="200KB")
    shutil.rmtree(copy / "unet")
    (copy / "sharded").rename(copy / "unet")
    capfd.readouterr()
    load_model(str(copy))
    out, err = capfd.readouterr()
    assert out == "" and err == ""
