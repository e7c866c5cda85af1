"""What can be known of a model folder before its weights are loaded.

The layout is the hub's, as `diffusers.TextToVideoSDPipeline.save_pretrained` writes it (ModelScope, ZeroScope and the
embedded models). A file `longtake.json` beside model_index.json may add what has no place there; see `Extras`.
"""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from longtake.errors import CheckpointError, InputError
from longtake.model import Continuation, Infill, PerFrameNoise, TemporalHooks, VideoModel, VideoSpec
from longtake.models.diffusers.hub_files import num_parameters, plain_name, read_json, weight_files

PIPELINE = "TextToVideoSDPipeline"
CLASSES = {"unet": "UNet3DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
EXTRAS = "longtake.json"


@dataclass(frozen=True, kw_only=True)
class Extras:
    """The content of longtake.json. The defaults hold for folders without one: those of TextToVideoSDPipeline."""

    fps: float = 8.0
    """Frames per second that the model was trained at."""
    guidance: float = 9.0
    """The guidance that suits the model."""
    num_frames: int = 16
    """Frames in one call of the network."""
    clean_frames: bool = False
    """Whether the network was trained with finished frames among noisy ones, labelled with timestep 0."""
    vocabulary: list[str] | None = None
    """Every word the model knows, where that is a closed list."""
    forward_flops: int | None = None
    """Floating-point operations of one network evaluation."""
    decode_flops: int | None = None
    """Floating-point operations to decode one frame."""
    shared: str | None = None
    """A folder beside this one that has the parts which this one lacks, written "../name"."""


def folder_spec(folder: Path) -> VideoSpec:
    """Return the spec of the model in a folder.

    Raises InputError for a model of another kind, CheckpointError for missing or broken files.
    """
    parts, extras = part_folders(folder), read_extras(folder)
    unet, vae = (read_json(parts[name] / "config.json") for name in ("unet", "vae"))
    stride = 2 ** (len(_value(vae, "block_out_channels", list, parts["vae"])) - 1)
    size = _sample_size(unet, parts["unet"])
    capabilities: set[type[VideoModel]] = {PerFrameNoise, TemporalHooks}
    if extras.clean_frames:
        capabilities |= {Infill, Continuation}
    files = [file for part, stem in STEMS.items() for file in weight_files(parts[part], stem)]
    return VideoSpec(
        name=folder.resolve().name,
        num_frames=extras.num_frames,
        height=size[0] * stride,
        width=size[1] * stride,
        fps=extras.fps,
        latent_shape=(_value(unet, "in_channels", int, parts["unet"]), extras.num_frames, *size),
        guidance=extras.guidance,
        capabilities=frozenset(capabilities),
        clean_frames=extras.clean_frames,
        vocabulary=None if extras.vocabulary is None else frozenset(extras.vocabulary),
        parameters=sum(num_parameters(file) for file in files),
        forward_flops=extras.forward_flops,
        decode_flops=extras.decode_flops,
    )


def unknown_words(spec: VideoSpec, text: str) -> list[str]:
    """Return the words of a prompt that a model with a closed vocabulary has never seen, in order, each once."""
    if spec.vocabulary is None:
        return []
    words = re.findall(r"[^\W_]+(?:['-][^\W_]+)*", text.lower())
    return [word for word in dict.fromkeys(words) if not _known(word, spec.vocabulary)]


def _known(word: str, vocabulary: frozenset[str]) -> bool:
    return word in vocabulary or all(part in vocabulary for part in re.split("['-]", word))


def part_folders(folder: Path) -> dict[str, Path]:
    """Return where each part of the model lies: in the folder, else in the one it shares parts with.

    Raises InputError for a model of another kind, CheckpointError where a part is missing.
    """
    _check_pipeline(folder)
    shared = read_extras(folder).shared
    other = None if shared is None else _sibling(folder, shared)
    if other:
        _check_pipeline(other)
    parts = {}
    for part in PARTS:
        places = [place / part for place in (folder, other) if place and (place / part).is_dir()]
        if not places:
            raise CheckpointError(f"{folder / part} is missing; the folder must hold {', '.join(PARTS)}")
        parts[part] = places[0]
    for part, supported in CLASSES.items():
        found = read_json(parts[part] / "config.json").get("_class_name", supported)
        if found != supported:
            raise InputError(f"{parts[part]} is a {found}; longtake runs folders with a {supported} there")
    return parts


def read_extras(folder: Path) -> Extras:
    """Return what longtake.json adds. Raises CheckpointError for unknown fields and values of another type."""
    path = folder / EXTRAS
    if not path.is_file():
        return Extras()
    given = read_json(path)
    known = {field.name for field in fields(Extras)}
    if unknown := sorted(set(given) - known):
        raise CheckpointError(f"{path} has the unknown field {unknown[0]!r}; known: {', '.join(sorted(known))}")
    checked = {name: _checked_extra(path, name, value) for name, value in given.items()}
    return Extras(**checked)


def _checked_extra(path: Path, name: str, value: Any) -> Any:
    kind = type(value)
    is_count, is_number = kind is int and value > 0, kind in (int, float)
    fitting: dict[str, bool] = {
        "fps": is_number and value > 0,
        "guidance": is_number and value >= 0,
        "num_frames": is_count,
        "clean_frames": type(value) is bool,
        "vocabulary": value is None or (isinstance(value, list) and all(isinstance(word, str) for word in value)),
        "forward_flops": value is None or is_count,
        "decode_flops": value is None or is_count,
        "shared": value is None or isinstance(value, str),
    }
    if not fitting[name]:
        raise CheckpointError(f"{path}: {name} cannot be {value!r}; fetch the model again")
    return float(str(value)) if name in ("fps", "guidance") else value


def _sibling(folder: Path, shared: str) -> Path:
    name = plain_name(shared.removeprefix("../"), folder / EXTRAS)
    sibling = folder.resolve().parent / name
    if not sibling.is_dir():
        raise CheckpointError(f"{sibling} is missing; {folder} shares parts with it")
    return sibling


def _check_pipeline(folder: Path) -> None:
    index = read_json(folder / "model_index.json")
    if index.get("_class_name") != PIPELINE:
        found = index.get("_class_name", "model of an unknown kind")
        raise InputError(f"{folder} is a {found}; longtake runs {PIPELINE} folders (ModelScope, ZeroScope)")
    for part, supported in CLASSES.items():
        entry = index.get(part, [None, supported])
        found = entry[1] if isinstance(entry, list) and len(entry) == 2 else entry
        if found != supported:
            raise InputError(f"{folder} has a {found} as {part}; longtake runs folders with a {supported} there")


def _sample_size(unet: dict[str, Any], part: Path) -> tuple[int, int]:
    size = unet.get("sample_size")
    both: list[Any] = size if isinstance(size, list) else [size, size]
    if len(both) != 2 or not all(type(side) is int and side > 0 for side in both):
        raise CheckpointError(f"{part / 'config.json'}: sample_size cannot be {size!r}; fetch the model again")
    return both[0], both[1]


def _value(config: dict[str, Any], name: str, kind: type, part: Path) -> Any:
    value = config.get(name)
    if type(value) is not kind or not value:
        raise CheckpointError(f"{part / 'config.json'}: {name} cannot be {value!r}; fetch the model again")
    return value
