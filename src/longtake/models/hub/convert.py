"""Writes model folders: a new folder is whole or not there at all, and holds safetensors, whatever its sources hold."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from longtake.errors import CheckpointError, LongtakeError, OutputError
from longtake.models import family_of, model_spec
from longtake.models.hub.configs import EXTRAS, part_folders, read_extras
from longtake.models.hub.files import plain_name, read_json
from longtake.models.hub.find import INDEX, find
from longtake.reading import check_file, refuse_no_place

if TYPE_CHECKING:
    from torch import Tensor


def to_safetensors(name: str, output: Path) -> None:
    """Write the model `name`, a folder or the id of one in the hub's cache, to the folder `output`, without pickles.

    Raises InputError for a model that longtake does not run, CheckpointError for damaged files, OutputError for an
    output that exists.
    """
    found = find(name)
    places = part_folders(found.folder, family_of(found))
    with new_folder(output) as draft:
        for part, place in places.items():
            copy_part(place, draft / part)
        shutil.copy(found.folder / INDEX, draft)
        extras = {key: value for key, value in read_extras(found.folder).items() if key != "shared"}
        if extras:
            (draft / EXTRAS).write_text(json.dumps(extras, indent=2), encoding="utf-8")


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Give a folder to fill, which becomes `output` if it then holds a model; if not, nothing of it stays.

    Raises OutputError for an output that exists or cannot be written, and what `model_spec` raises.
    """
    if output.exists():
        raise OutputError(f"{output} exists; choose another name, or remove it")
    refuse_no_place(output, folder=True)
    try:
        with tempfile.TemporaryDirectory(dir=output.absolute().parent, prefix=f".{output.name}.") as scratch:
            draft = Path(scratch) / "model"
            draft.mkdir()
            yield draft
            try:
                model_spec(str(draft))
            except LongtakeError as error:
                raise type(error)(f"no model came of it: {str(error).replace(str(draft), str(output))}") from None
            draft.rename(output)
    except (OSError, SafetensorError) as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise OutputError(f"cannot write {output}: {why or error}") from None


def copy_part(source: Path, target: Path) -> None:
    """Copy a part of a model to the folder `target`; large files are linked where the disk allows it.

    Of weights that lie there as .bin alone, safetensors are written. Raises CheckpointError for damaged ones.
    """
    shutil.copytree(source, target, copy_function=link, ignore=shutil.ignore_patterns("*.bin", "*.bin.index*.json"))
    for file in sorted(source.glob("*.bin")):
        if not (target / _safe_name(file.name)).exists():
            write_tensors(read_pickled(file), target / _safe_name(file.name), file)
    for index in sorted(source.glob("*.bin.index*.json")):
        content = read_json(index)
        shards = content.get("weight_map")
        if not isinstance(shards, dict):
            raise CheckpointError(f"{index} holds no weight_map; fetch the model again")
        renamed = {tensor: _safe_name(plain_name(shard, index)) for tensor, shard in shards.items()}
        (target / _safe_name(index.name)).write_text(json.dumps(content | {"weight_map": renamed}), encoding="utf-8")


def read_pickled(file: Path) -> dict[str, Any]:
    """Return what torch.save has written by name, of which nothing is run. Raises CheckpointError for anything else."""
    import torch

    from longtake.models.hub.load import one_line_errors

    with one_line_errors(file):
        check_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds no tensors by name; fetch the model again")
    return content


def write_tensors(tensors: "dict[str, Tensor]", target: Path, source: Path) -> None:
    """Write the tensors of the file `source` as safetensors. Raises CheckpointError for what is no tensor."""
    from safetensors.torch import save_file
    from torch import Tensor

    written, stored = {}, set()
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"{source} holds {name!r}, which is no tensor; give a file of weights alone")
        # What goes by two names, as tied weights do, is one tensor; the file has it under each.
        shared = tensor.untyped_storage().data_ptr() in stored
        stored.add(tensor.untyped_storage().data_ptr())
        written[name] = tensor.clone().contiguous() if shared else tensor.contiguous()
    save_file(written, target, metadata={"format": "pt"})


def link(source: str | Path, target: str | Path) -> None:
    """Give large files a second name where that is possible, copy others."""
    real = Path(source).resolve()
    if Path(source).suffix == ".safetensors":
        try:
            os.link(real, target)
            return
        except OSError:
            pass
    shutil.copy(real, target)


def _safe_name(name: str) -> str:
    """Return what the libraries call a file of weights, or its list of shards, when it holds safetensors."""
    renamed = f"model{name.removeprefix('pytorch_model')}" if name.startswith("pytorch_model") else name
    stem, dot, rest = renamed.rpartition(".bin")
    return f"{stem}{dot and '.safetensors'}{rest}"
