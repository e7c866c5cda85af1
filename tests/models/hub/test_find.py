"""Where models are found: folders, the hub's cache; which are run, and what is said of all else."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from longtake.errors import CheckpointError, InputError, LongtakeError
from longtake.models import FAMILIES, MODELS, canonical, family_of, load_model, model_spec
from longtake.models.hub.find import find

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_pipeline_that_nobody_knows_is_named_with_those_that_are_run(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "MadeUpPipeline"}))
    for ask in (model_spec, load_model):
        with pytest.raises(InputError, match="is a MadeUpPipeline, which is none of diffusers") as caught:
            ask(str(tmp_path))
        assert "\n" not in str(caught.value) and all(known in str(caught.value) for known in FAMILIES)


def test_an_empty_name_is_no_model_and_not_the_folder_that_one_is_in() -> None:
    with pytest.raises(InputError, match="the name of the model is empty; give a name, a folder, or a hub id"):
        find("")


@pytest.mark.parametrize("name", ["./nowhere", "../no/where", "~/nowhere", "no/where/at/all", "/no/where", "owner/"])
def test_what_looks_like_a_path_and_is_not_there_is_said_to_be_no_folder(name: str) -> None:
    for ask in (model_spec, load_model):
        with pytest.raises(InputError, match=f"^there is no folder '{name}'; ") as caught:
            ask(name)
        assert "known" not in str(caught.value) and "download" not in str(caught.value)
    with pytest.raises(InputError, match="there is no model 'nowhere'; "):
        model_spec("nowhere")


def tensors(path: Path, *names: str) -> None:
    save_file({name: torch.zeros(1) for name in names}, path)


NO_FOLDER: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda f: None, "holds no model_index.json"),
    "a part": (
        lambda f: (f / "config.json").write_text('{"_class_name": "MotionAdapter"}'),
        "single part .MotionAdapter",
    ),
    "of others": (
        lambda f: (f / "config.json").write_text('{"dim": 4}'),
        "names no class of diffusers; longtake takes a",
    ),
    "modular": (lambda f: (f / "modular_model_index.json").write_text("{}"), "a modular pipeline"),
    "GGUF": (lambda f: (f / "wan-Q4.gguf").write_bytes(b"GGUF"), "wan-Q4.gguf is a GGUF file"),
    "one file": (lambda f: tensors(f / "ltx.safetensors", "a", "b"), "ltx.safetensors is a single file of 2 tensors"),
    "LoRA": (lambda f: tensors(f / "x.safetensors", "blocks.0.lora_A.weight"), "x.safetensors is a LoRA.*--lora"),
    "peft": (lambda f: (f / "adapter_config.json").write_text("{}"), "is a LoRA"),
    "pickle": (lambda f: (f / "model.ckpt").write_bytes(b"x"), "model.ckpt holds pickled weights"),
    "cut": (lambda f: (f / "x.safetensors").write_bytes(b"x"), "x.safetensors is not a whole safetensors file"),
}


@pytest.mark.parametrize("case", NO_FOLDER)
def test_what_is_no_folder_of_a_pipeline_is_called_by_its_name(tmp_path: Path, case: str) -> None:
    write, message = NO_FOLDER[case]
    write(tmp_path)
    with pytest.raises(LongtakeError, match=message) as caught:
        model_spec(str(tmp_path))
    assert "\n" not in str(caught.value)
    for file in (path for path in tmp_path.iterdir() if path.suffix != ".json"):
        with pytest.raises(LongtakeError, match=message):
            model_spec(str(file))


@pytest.fixture
def cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache with one repository in it, laid out as the hub's library does: links to blobs."""
    place = tmp_path / "hub" / "models--somebody--tiny-model"
    snapshot = place / "snapshots" / COMMIT
    for file in (path for path in folder.rglob("*") if path.is_file()):
        blob, link = place / "blobs" / str(abs(hash(file))), snapshot / file.relative_to(folder)
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return place


def test_a_repository_in_the_cache_is_a_model_by_its_id(cache: Path, folder: Path) -> None:
    for name in ("somebody/tiny-model", str(cache), str(cache / "snapshots" / COMMIT)):
        assert model_spec(name).name == "somebody/tiny-model"
        assert load_model(name).digest == load_model(str(folder)).digest
    assert model_spec("somebody/tiny-model", revision=COMMIT) == model_spec("somebody/tiny-model", revision="main")
    assert canonical("somebody/tiny-model") == "somebody/tiny-model"
    assert canonical(str(folder / ".." / folder.name)) == str(folder.resolve())


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("somebody/other", None, "not in the hub's cache .*--download fetches it"),
        ("somebody/tiny-model", "v2", f"not its revision 'v2'; there: {COMMIT}"),
        ("somebody/tiny-model", "../../../etc", "leads out of the cache"),
        ("sprite", None, "did you mean 'sprites'"),
    ],
)
def test_what_is_not_in_the_cache_is_not_fetched(cache: Path, name: str, revision: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        model_spec(name, revision=revision)
    assert "\n" not in str(caught.value)


def test_a_snapshot_without_an_index_says_what_it_is(cache: Path) -> None:
    snapshot = cache / "snapshots" / COMMIT
    (snapshot / "model_index.json").rename(snapshot / "modular_model_index.json")
    with pytest.raises(InputError, match="modular"):
        model_spec("somebody/tiny-model")


def test_a_revision_of_a_folder_has_no_effect(folder: Path) -> None:
    with pytest.raises(InputError, match="revision 'main' has no effect on the folder"):
        model_spec(str(folder), revision="main")


def test_a_variant_that_is_asked_for_comes_first(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    plain = load_model(str(copy)).pipeline.unet
    plain.half().save_pretrained(copy / "unet", variant="fp16")
    exact, half = (load_model(str(copy), variant=variant).pipeline.unet for variant in (None, "fp16"))
    assert not all(torch.equal(a, b) for a, b in zip(exact.parameters(), half.parameters(), strict=True))
    assert model_spec(str(copy), variant="fp16").parameters == model_spec(str(copy)).parameters


def test_a_folder_is_run_by_the_row_of_its_pipeline_or_its_network(folder: Path, latte_folder: Path) -> None:
    assert family_of(find(str(folder))) is FAMILIES["TextToVideoSDPipeline"]
    assert family_of(find(str(latte_folder))) is FAMILIES["LattePipeline"]
    assert all(row.room.startswith("longtake.models.") for row in FAMILIES.values()) and "sprites" in MODELS


def test_an_index_that_lost_the_network_of_its_pipeline_says_which(tmp_path: Path) -> None:
    index = {"_class_name": "StableVideoDiffusionPipeline", "vae": ["diffusers", "AutoencoderKLTemporalDecoder"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"model_index.json names no unet \(UNetSpatioTemporalConditionModel\)"):
        model_spec(str(tmp_path))
