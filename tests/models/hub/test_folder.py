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

from longtake.errors import CheckpointError, InputError, LongtakeError
from longtake.model import Continuation, Infill, PerFrameNoise, TemporalHooks
from longtake.models import load_model, model_spec
from longtake.models.hub import files as hub_files
from longtake.models.hub.files import digest


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


def test_hashes_of_large_files_are_remembered(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = digest([copy / "unet"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(hub_files, "CACHED_FROM_BYTES", 1)
    assert digest([copy / "unet"]) == fresh
    known = json.loads((tmp_path / "cache" / "longtake" / "digests.json").read_text())
    assert len(known) == 2
    monkeypatch.setattr(hub_files.hashlib, "file_digest", None)
    assert digest([copy / "unet"]) == fresh


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
