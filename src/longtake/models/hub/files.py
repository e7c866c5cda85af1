"""Folders in the hub's layout, as files: where parts lie, how large they are, what identifies them. Loads no weights.

Everything here is data from outside: JSON and safetensors only, and no name in it may lead out of the folder.
"""

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from longtake.errors import CheckpointError
from longtake.reading import NO_FILE, check_file, parse_json

MAX_HEADER_BYTES = 100_000_000
_SHOWN = 200
KINDS = (".safetensors", ".json", ".txt")
"""Files that decide what a model makes."""
CACHED_FROM_BYTES = 64_000_000
"""Files from this size on have their hash remembered between runs."""


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file. Raises CheckpointError where it is missing, no JSON or no object."""
    check_plain(path)
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); a model folder must hold it") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); fetch the model again") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object; fetch the model again")
    return content


def check_plain(path: Path) -> None:
    """Check that reading a path comes to an end. Raises CheckpointError for a pipe or a device, and for nothing."""
    try:
        check_file(path)
    except OSError as error:
        advice = "remove it" if error.strerror == NO_FILE else "a model folder must hold it"
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); {advice}") from None


def plain_name(name: object, where: Path) -> str:
    """Return a file or folder name found in the file `where`. Raises CheckpointError for one that leads elsewhere."""
    if not isinstance(name, str) or name in ("", ".", "..") or any(sign in name for sign in "/\\\0:"):
        raise CheckpointError(f"{where} names {name!r}, which leads out of the folder; only plain names are allowed")
    return name


def variant(folder: Path, stem: str, wanted: str | None = None) -> str | None:
    """Return which of a part's weights to read: None for plain ones, else the word in their name.

    `stem` is the library's name of a weight file without its ending. The `wanted` word comes first, then plain ones,
    then "fp16". Raises CheckpointError where none is safetensors.
    """
    for found in dict.fromkeys((wanted, None, "fp16")):
        name = _weights_name(stem, found)
        if (folder / name).exists() or (folder / _index_name(name)).exists():
            return found
    if any(folder.glob("*.bin")):
        raise CheckpointError(
            f"{folder} holds pickled weights (.bin), which can run code; "
            f"'longtake convert safetensors {folder.parent} -o OUT' makes a folder without them"
        )
    raise CheckpointError(f"{folder} holds no {stem}.safetensors; fetch the model again")


def weight_files(folder: Path, stem: str, wanted: str | None = None) -> list[Path]:
    """Return the safetensors files of a part, shards included. Raises CheckpointError where one is missing."""
    name = _weights_name(stem, variant(folder, stem, wanted))
    index = folder / _index_name(name)
    if not index.exists():
        check_plain(folder / name)
        return [folder / name]
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict):
        raise CheckpointError(f"{index} holds no weight_map; fetch the model again")
    names = [plain_name(shard, index) for shard in shards.values()]
    files = [folder / shard for shard in sorted(set(names))]
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{file} is missing; fetch the model again")
    return files


def _weights_name(stem: str, variant: str | None) -> str:
    return f"{stem}.{variant}.safetensors" if variant else f"{stem}.safetensors"


def _index_name(name: str) -> str:
    """Return what the libraries call the list of shards of a weight file (they put the variant before the ending)."""
    stem, *variants = name.removesuffix(".safetensors").split(".")
    return ".".join([stem, "safetensors", "index", *variants, "json"])


def part_shapes(folder: Path, stem: str, wanted: str | None = None) -> dict[str, tuple[int, ...]]:
    """Return the tensors of a part, shards included, from the headers of its files; see `weight_files`.

    Raises CheckpointError for a damaged file, and where no shard has a tensor that the list of shards names.
    """
    name = _weights_name(stem, variant(folder, stem, wanted))
    files = weight_files(folder, stem, wanted)
    shapes = {tensor: shape for file in files for tensor, shape in tensor_shapes(file).items()}
    if (index := folder / _index_name(name)).exists():
        # The libraries take this list for the tensors themselves, and leave a network without what is in no shard.
        shards = read_json(index)["weight_map"]
        if lost := sorted(shards.keys() - shapes.keys()):
            raise CheckpointError(
                f"{folder / shards[lost[0]]} lacks {lost[0]}, which {index.name} says is in it; fetch the model again"
            )
    return shapes


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the tensors of a safetensors file, from its header. Raises CheckpointError for a damaged one."""
    # Needs no torch.
    from safetensors import SafetensorError, safe_open

    try:
        header, size = _header(file)
        told = header.get("__metadata__", {})
        if not isinstance(told, dict) or not all(isinstance(text, str) for text in told.values()):
            raise ValueError("its __metadata__ is not texts by their names")
        shapes = {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
        if not all(type(side) is int and side >= 0 for shape in shapes.values() for side in shape):
            raise ValueError("its shapes are no numbers")
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        if 8 + size + max(ends, default=0) != file.stat().st_size:
            raise ValueError("it is shorter or longer than its header says")
        with safe_open(file, "np"):
            return shapes
    except OSError as error:
        reason = error.strerror
    except (TypeError, AttributeError, LookupError, RecursionError):
        reason = "its header lists no tensors"
    except (ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:_SHOWN]
    raise CheckpointError(f"{file} is not a whole safetensors file ({reason}); fetch the model again")


def tensor_formats(file: Path) -> dict[str, str]:
    """Return how the tensors of a safetensors file that `tensor_shapes` takes are stored, by its own words, as F16."""
    return {name: str(entry.get("dtype")) for name, entry in _header(file)[0].items() if name != "__metadata__"}


def told_in(file: Path) -> dict[str, str]:
    """Return what a safetensors file that `tensor_shapes` takes says of itself."""
    told = _header(file)[0].get("__metadata__")
    return told if isinstance(told, dict) else {}


def _header(file: Path) -> tuple[dict[str, Any], int]:
    """Return the header of a safetensors file, and its bytes. Raises ValueError where it cannot be one."""
    with file.open("rb") as stream:
        if len(begin := stream.read(8)) < 8:
            raise ValueError("it is empty, or cut off")
        (size,) = struct.unpack("<Q", begin)
        if size > min(MAX_HEADER_BYTES, file.stat().st_size):
            raise ValueError("its header is longer than the file")
        header = json.loads(stream.read(size), object_pairs_hook=_each_once)
    if not isinstance(header, dict):
        raise ValueError("its header lists no tensors")
    return header, size


def _each_once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            # Which of them holds, JSON does not say.
            raise ValueError(f"its header names {name} twice")
        found[name] = value
    return found


def gguf_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the tensors of a GGUF file, for which the package gguf must be there. Raises CheckpointError for a
    damaged one."""
    from gguf import GGUFReader  # pyright: ignore[reportMissingImports]

    try:
        return {tensor.name: tuple(int(side) for side in tensor.shape) for tensor in GGUFReader(file).tensors}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"{file} is no whole GGUF file ({error}); fetch the model again") from None


def digest(parts: Iterable[Path], told: str = "") -> str:
    """Return a hash of everything in these folders that decides what a model makes: weights, settings, vocabulary.

    Names count relative to their part, and not where a part is a file. `told` is what decides it, too, but lies
    elsewhere. Hashes of large files stay in the user's cache, by path, size and time.
    """
    whole = hashlib.sha256(told.encode())
    for part in parts:
        for file in _relevant(part):
            name = part.suffix if file is part else f"{part.name}/{file.name}"
            whole.update(f"{name} {_file_hash(file)}\n".encode())
    return whole.hexdigest()


def _relevant(part: Path) -> Iterator[Path]:
    if part.is_file():
        return iter([part])
    return (file for file in sorted(part.iterdir()) if file.suffix in KINDS and file.is_file())


def _file_hash(file: Path) -> str:
    found = file.stat()
    if found.st_size < CACHED_FROM_BYTES:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    key = f"{file.resolve()} {found.st_size} {found.st_mtime_ns}"
    known = _remembered()
    if key not in known:
        with file.open("rb") as stream:
            known[key] = hashlib.file_digest(stream, "sha256").hexdigest()
        _remember(known)
    return known[key]


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "longtake" / "digests.json"


def _remembered() -> dict[str, str]:
    try:
        content = parse_json(_cache().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _remember(known: dict[str, str]) -> None:
    """Write the cache; where that is impossible the next run computes again."""
    cache = _cache()
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        draft = cache.with_name(f"{cache.name}.{os.getpid()}")
        draft.write_text(json.dumps(known), encoding="utf-8")
        draft.replace(cache)
    except OSError:
        return
