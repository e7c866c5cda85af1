"""Where a model is: a folder, or a repository of the hub that lies in the local cache. Asks nothing of the network."""

import importlib.util
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from longtake.errors import CheckpointError, InputError, LongtakeError
from longtake.models.hub.files import read_json, tensor_shapes
from longtake.words import counted

INDEX = "model_index.json"
HUB_ID = re.compile(r"(?!\.)[\w.-]+/[\w.-]+")
SNAPSHOTS = "snapshots"
BASE = "give --base the folder or hub id of its pipeline, for the other parts and the config"
WANTED = f"longtake takes a folder with {INDEX}, as diffusers saves a pipeline"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A model folder."""

    folder: Path
    name: str
    """What people call it: the folder, or the repository that it is a snapshot of."""
    variant: str | None = None
    """Which files of a part count first: those with this word in their name, as "fp16"."""
    file: Path | None = None
    """What holds the weights of its transformer, in place of the folder's own."""


def read_index(found: Found) -> dict[str, Any]:
    """Return the content of model_index.json. Raises CheckpointError for a broken one."""
    return read_json(found.folder / INDEX)


def config_of(found: Found, part: str) -> dict[str, Any]:
    """Return the config of a network, empty where there is none. Raises CheckpointError for a broken one."""
    file = found.folder / part / "config.json"
    return read_json(file) if file.exists() else {}


def find(name: str, revision: str | None = None, variant: str | None = None) -> Found:
    """Return the folder of a model, by path or by the hub's id ("owner/name") of one in the local cache.

    `revision` is a branch, tag or commit of a repository. Raises InputError where there is none, and, saying what it
    is, for what is no folder of a whole pipeline.
    """
    if not name:
        raise InputError("the name of the model is empty; give a name, a folder, or a hub id (owner/name)")
    folder = Path(name).expanduser()
    if not folder.exists() and not is_hub_id(name):
        raise InputError(f"there is no folder {name!r}; check the path, or give a hub id (owner/name)")
    if not folder.exists():
        return Found(folder=cached(name, revision), name=name, variant=variant)
    if revision is not None:
        raise InputError(f"revision {revision!r} has no effect on the folder {folder}; leave it out, or give a hub id")
    if folder.name.startswith("models--") and (folder / SNAPSHOTS).is_dir():
        repository = folder.name.removeprefix("models--").replace("--", "/", 1)
        return Found(folder=_snapshot(folder, "main", repository), name=repository, variant=variant)
    if not folder.is_dir() or not (folder / INDEX).exists():
        raise _other(folder)
    return Found(folder=folder, name=_shown(folder.resolve()), variant=variant)


def with_transformer(base: Found, name: str) -> Found:
    """Return a model of which the transformer lies in a file by itself, as trainers and ComfyUI pass them on.

    Raises InputError for what is no such file, and says what it is.
    """
    file = Path(name).expanduser()
    if not file.is_file():
        raise InputError(f"{file} is no file, so --base has no effect on it; leave --base out")
    if file.suffix != ".gguf":
        _check_transformer(file)
    elif importlib.util.find_spec("gguf") is None:
        raise InputError(f"{file} is a GGUF file, which needs gguf, which is not installed; pip install gguf")
    return replace(base, file=file.resolve(), name=file.stem)


def is_hub_id(name: str) -> bool:
    """Return whether a name that is no path can be that of a repository of the hub."""
    return HUB_ID.fullmatch(name) is not None


def is_path(name: str) -> bool:
    """Return whether a name can be nothing but a path."""
    return not is_hub_id(name) and (name.startswith((".", "~")) or not {"/", os.sep}.isdisjoint(name))


def snapshot(name: str, revision: str | None = None) -> Path | None:
    """Return the snapshot of a repository in the hub's local cache; None where it is not there, or lacks its index."""
    try:
        return cached(name, revision)
    except LongtakeError:
        return None


def cached(name: str, revision: str | None = None) -> Path:
    """Return the snapshot of a repository in the hub's local cache. Raises InputError where it is not there."""
    from huggingface_hub.constants import HF_HUB_CACHE

    place = Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    if not (place / SNAPSHOTS).is_dir():
        raise InputError(
            f"{name} is no folder here, and not in the hub's cache ({HF_HUB_CACHE}); --download fetches it"
        )
    return _snapshot(place, revision or "main", name)


def _snapshot(place: Path, revision: str, name: str) -> Path:
    """Return the folder of a revision, which a file under refs/ names, or which is a commit itself."""
    reference = place / "refs" / revision
    if ".." in reference.parts:
        raise InputError(f"revision {revision!r} leads out of the cache; give a branch, a tag or a commit")
    commit = reference.read_text(encoding="utf-8", errors="replace").strip() if reference.is_file() else revision
    folder = place / SNAPSHOTS / commit
    if not re.fullmatch(r"[\w.-]+", commit) or not folder.is_dir():
        known = sorted(path.name for path in (place / SNAPSHOTS).iterdir())
        raise InputError(f"{name} is in the hub's cache, but not its revision {revision!r}; there: {', '.join(known)}")
    if not (folder / INDEX).exists():
        raise _other(folder)
    return folder


def _shown(folder: Path) -> str:
    """Return the name of a folder; a snapshot's is a hash, so that of its repository."""
    repository = folder.parent.parent.name
    is_snapshot = folder.parent.name == SNAPSHOTS and repository.startswith("models--")
    return repository.removeprefix("models--").replace("--", "/", 1) if is_snapshot else folder.name


def _other(path: Path) -> LongtakeError:
    """Return the error that says what is there in place of a pipeline's folder, and what to do."""
    if path.is_file():
        return _single_file(path)
    if not path.is_dir():
        return CheckpointError(f"{path} is neither a file nor a folder; {WANTED}")
    if (path / "modular_model_index.json").exists():
        return InputError(
            f"{path} is a modular pipeline (modular_model_index.json), which longtake does not run; "
            "docs/models/any-pipeline.md says what that would take"
        )
    if (path / "adapter_config.json").exists():
        return _lora(path)
    if (path / "config.json").is_file():
        found = read_json(path / "config.json").get("_class_name")
        if found is None:
            return InputError(f"{path} holds a config.json that names no class of diffusers; {WANTED}")
        return InputError(f"{path} is a single part ({found}) of a pipeline; {WANTED}")
    files = sorted(file for file in path.iterdir() if file.suffix in (".safetensors", ".gguf", ".bin", ".ckpt", ".pt"))
    if files:
        return _single_file(files[0])
    return InputError(f"{path} holds no {INDEX}; {WANTED}")


def _single_file(file: Path) -> LongtakeError:
    if file.suffix == ".gguf":
        return InputError(f"{file} is a GGUF file, a transformer alone and quantised; {BASE}")
    if file.suffix == ".safetensors":
        try:
            _check_transformer(file)
        except InputError as other:
            return other
        return InputError(f"{file} is a single file of {counted(len(tensor_shapes(file)), 'tensor')}; {BASE}")
    if file.suffix in (".bin", ".ckpt", ".pt", ".pth"):
        return InputError(f"{file} holds pickled weights, which can run code; see longtake convert --help, or {WANTED}")
    return InputError(f"{file} is a file; {WANTED}")


def _check_transformer(file: Path) -> None:
    """Raise InputError, by its name, for a file of safetensors that cannot be a transformer that longtake reads."""
    if file.suffix != ".safetensors":
        raise _single_file(file)
    names = tensor_shapes(file).keys()
    is_scaled = any(name.endswith(("scale_weight", "weight_scale")) or "scaled_fp8" in name for name in names)
    kept = "scaled fp8 of ComfyUI's layout, " if is_scaled else ""
    if any("lora" in name.lower() for name in names):
        raise _lora(file)
    if any(name.endswith("shared.weight") or "text_model.encoder" in name for name in names):
        raise InputError(
            f"{file} is a text encoder ({kept or 'a single file, '}which no pipeline of diffusers reads); the text "
            "encoder of --base is used: give --model the transformer"
        )
    if is_scaled:
        raise InputError(
            f"{file} holds {kept}which diffusers does not read; take the fp16 or bf16 file, and --quantize"
        )
    if any(name.startswith(("decoder.", "first_stage_model.")) for name in names):
        raise InputError(f"{file} is an autoencoder; that of --base is used: give --model the transformer")


def _lora(path: Path) -> LongtakeError:
    return InputError(
        f"{path} is a LoRA, which changes a model and is none; give --model the model that it was trained for, and "
        "this to --lora"
    )
