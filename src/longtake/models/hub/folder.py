"""What can be known of a model folder before its weights are loaded.

The layout is the hub's, as a diffusers pipeline saves it; `TEXT_TO_VIDEO` is that of ModelScope, ZeroScope,
VideoCrafter2 and the embedded models. A file `longtake.json` beside model_index.json may add what has no place there;
see `Extras`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from longtake.errors import CheckpointError, InputError
from longtake.model import Continuation, Infill, PerFrameNoise, TemporalHooks, VideoModel, VideoSpec
from longtake.models.hub.files import (
    num_parameters,
    plain_name,
    read_json,
    tensor_shapes,
    weight_files,
)
from longtake.models.modelscope.temporal_shapes import temporal_layers


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the folder of a pipeline consists of."""

    pipeline: str
    """Class of the pipeline, in model_index.json."""
    networks: dict[str, str]
    """Parts that hold weights, with their class."""
    others: tuple[str, ...] = ("tokenizer", "scheduler")
    """Parts that hold none."""
    lender: "Layout | None" = None
    """Layout of the folder that lacking parts are taken from, where it is another."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names of all parts."""
        return (*self.networks, *self.others)


TEXT_TO_VIDEO = Layout(
    pipeline="TextToVideoSDPipeline",
    networks={"unet": "UNet3DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"},
)
EXTRAS = "longtake.json"
FPS_EMBEDDING = tuple(
    f"fps_embedding.{layer}.{kind}" for layer in ("linear_1", "linear_2") for kind in ("weight", "bias")
)
"""VideoCrafter2's tensors beyond UNet3DConditionModel, in the file of the UNet."""


@dataclass(frozen=True, kw_only=True)
class Extras:
    """The content of longtake.json. The defaults hold for folders without one: those of TextToVideoSDPipeline."""

    fps: float = 8.0
    """Frames per second that the model was trained at."""
    guidance: float = 9.0
    """The guidance that suits the model."""
    infill_guidance: float | None = None
    """The guidance that suits windows of frames in a row with known ends, where it is another one."""
    num_frames: int = 16
    """Frames in one call of the network."""
    size: list[int] | None = None
    """Height and width in pixels, for networks that do not say at which they were trained."""
    told_fps: float | None = None
    """Frames per second that the network is told of, for networks that want to know (VideoCrafter2)."""
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


STOCK = Extras()


def folder_spec(folder: Path) -> VideoSpec:
    """Return the spec of the model in a folder.

    Raises InputError for a model of another kind, CheckpointError for missing or broken files.
    """
    parts, extras = part_folders(folder), read_extras(folder)
    if extras.size:
        raise CheckpointError(f"{folder / EXTRAS}: size has no effect here, the network says it itself; remove it")
    if extras.infill_guidance is not None and not extras.clean_frames:
        raise CheckpointError(f"{folder / EXTRAS}: infill_guidance has no effect without clean_frames; remove it")
    check_fps_embedding(parts["unet"], extras.told_fps)
    unet, vae = (read_json(parts[name] / "config.json") for name in ("unet", "vae"))
    stride = 2 ** (len(config_value(vae, "block_out_channels", list, parts["vae"])) - 1)
    size = sample_size(unet, parts["unet"])
    capabilities: set[type[VideoModel]] = {PerFrameNoise, TemporalHooks}
    if extras.clean_frames:
        capabilities |= {Infill, Continuation}
    return VideoSpec(
        name=folder.resolve().name,
        num_frames=extras.num_frames,
        height=size[0] * stride,
        width=size[1] * stride,
        fps=extras.fps,
        latent_shape=(config_value(unet, "in_channels", int, parts["unet"]), extras.num_frames, *size),
        guidance=extras.guidance,
        infill_guidance=extras.infill_guidance,
        capabilities=frozenset(capabilities),
        clean_frames=extras.clean_frames,
        vocabulary=None if extras.vocabulary is None else frozenset(extras.vocabulary),
        parameters=count_parameters(parts, TEXT_TO_VIDEO),
        forward_flops=extras.forward_flops,
        decode_flops=extras.decode_flops,
        temporal_layers=temporal_layers(unet, size),
    )


def unknown_words(spec: VideoSpec, text: str) -> list[str]:
    """Return the words of a prompt that a model with a closed vocabulary has never seen, in order, each once."""
    if spec.vocabulary is None:
        return []
    words = re.findall(r"[^\W_]+(?:['-][^\W_]+)*", text.lower())
    return [word for word in dict.fromkeys(words) if not _known(word, spec.vocabulary)]


def _known(word: str, vocabulary: frozenset[str]) -> bool:
    return word in vocabulary or all(part in vocabulary for part in re.split("['-]", word))


def count_parameters(parts: dict[str, Path], layout: Layout) -> int:
    """Return the number of weights of all parts together. Raises CheckpointError for missing or damaged files."""
    files = [file for part in layout.networks for file in weight_files(parts[part], stem(part))]
    return sum(num_parameters(file) for file in files)


def stem(part: str) -> str:
    """Return the libraries' name of a part's weight file without its ending."""
    return "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"


def part_folders(folder: Path, layout: Layout = TEXT_TO_VIDEO) -> dict[str, Path]:
    """Return where each part of the model lies: in the folder, else in the one it shares parts with.

    Raises InputError for a model of another kind, CheckpointError where a part is missing.
    """
    _check_pipeline(folder, layout)
    shared = read_extras(folder).shared
    other = None if shared is None else _sibling(folder, shared)
    if other:
        _check_pipeline(other, layout.lender or layout)
    parts = {}
    for part in layout.parts:
        places = [place / part for place in (folder, other) if place and (place / part).is_dir()]
        if not places:
            raise CheckpointError(f"{folder / part} is missing; the folder must hold {', '.join(layout.parts)}")
        parts[part] = places[0]
    for part, supported in layout.networks.items():
        found = read_json(parts[part] / "config.json").get("_class_name", supported)
        if found != supported:
            raise InputError(f"{parts[part]} is a {found}; longtake runs folders with a {supported} there")
    return parts


def told_to_network(folder: Path) -> str:
    """Return what of longtake.json decides what the model makes, for its digest."""
    told_fps = read_extras(folder).told_fps
    return "" if told_fps is None else f"told_fps {told_fps}"


def check_fps_embedding(unet: Path, told_fps: float | None) -> None:
    """Check that a UNet wants to be told of frames per second exactly where they are given.

    Raises InputError where it does not, CheckpointError for an embedding of another form.
    """
    names = {name for file in weight_files(unet, stem("unet")) for name in tensor_shapes(file)}
    found = {name for name in names if name.startswith("fps_embedding.")}
    if found and found != set(FPS_EMBEDDING):
        raise CheckpointError(f"{unet} has an fps embedding of another form; known: {', '.join(FPS_EMBEDDING)}")
    if found and told_fps is None:
        raise InputError(
            f"{unet} must be told of frames per second; 'longtake convert videocrafter2' makes a folder that does so"
        )
    if told_fps is not None and not found:
        raise InputError(f"told_fps of {EXTRAS} has no effect: {unet} has no fps embedding; leave it out")


def read_extras(folder: Path, defaults: Extras = STOCK) -> Extras:
    """Return what longtake.json says, else the defaults.

    Raises CheckpointError for unknown fields and values of another type.
    """
    path = folder / EXTRAS
    if not path.is_file():
        return defaults
    given = read_json(path)
    known = {field.name for field in fields(Extras)}
    if unknown := sorted(set(given) - known):
        raise CheckpointError(f"{path} has the unknown field {unknown[0]!r}; known: {', '.join(sorted(known))}")
    checked = {name: _checked_extra(path, name, value) for name, value in given.items()}
    return replace(defaults, **checked)


def refuse_extras(folder: Path, extras: Extras, defaults: Extras, names: Iterable[str]) -> None:
    """Raise InputError where longtake.json says something of which this kind of model makes no use."""
    for name in names:
        if getattr(extras, name) != getattr(defaults, name):
            raise InputError(f"{folder / EXTRAS}: {name} has no effect on this model; leave it out")


def _checked_extra(path: Path, name: str, value: Any) -> Any:
    kind = type(value)
    is_count, is_number = kind is int and value > 0, kind in (int, float)
    fitting: dict[str, bool] = {
        "fps": is_number and value > 0,
        "told_fps": is_number and value > 0,
        "guidance": is_number and value >= 0,
        "infill_guidance": is_number and value >= 0,
        "num_frames": is_count,
        "size": isinstance(value, list) and len(value) == 2 and all(type(side) is int and side > 0 for side in value),
        "clean_frames": type(value) is bool,
        "vocabulary": value is None or (isinstance(value, list) and all(isinstance(word, str) for word in value)),
        "forward_flops": value is None or is_count,
        "decode_flops": value is None or is_count,
        "shared": value is None or isinstance(value, str),
    }
    if not fitting[name]:
        raise CheckpointError(f"{path}: {name} cannot be {value!r}; fetch the model again")
    return float(str(value)) if name in ("fps", "guidance", "infill_guidance", "told_fps") else value


def _sibling(folder: Path, shared: str) -> Path:
    name = plain_name(shared.removeprefix("../"), folder / EXTRAS)
    sibling = folder.resolve().parent / name
    if not sibling.is_dir():
        raise CheckpointError(f"{sibling} is missing; {folder} shares parts with it")
    return sibling


def _check_pipeline(folder: Path, layout: Layout) -> None:
    index = read_json(folder / "model_index.json")
    if index.get("_class_name") != layout.pipeline:
        found = index.get("_class_name", "model of an unknown kind")
        raise InputError(f"{folder} is a {found}; here only a {layout.pipeline} is read")
    for part, supported in layout.networks.items():
        entry = index.get(part, [None, supported])
        found = entry[1] if isinstance(entry, list) and len(entry) == 2 else entry
        if found != supported:
            raise InputError(f"{folder} has a {found} as {part}; longtake runs folders with a {supported} there")


def sample_size(unet: dict[str, Any], part: Path) -> tuple[int, int]:
    """Return height and width of the latents, of the config of a UNet. Raises CheckpointError where it says none."""
    size = unet.get("sample_size")
    both: list[Any] = size if isinstance(size, list) else [size, size]
    if len(both) != 2 or not all(type(side) is int and side > 0 for side in both):
        raise CheckpointError(f"{part / 'config.json'}: sample_size cannot be {size!r}; fetch the model again")
    return both[0], both[1]


def config_value(config: dict[str, Any], name: str, kind: type, part: Path) -> Any:
    """Return what the config of a part says. Raises CheckpointError for nothing, or another type."""
    value = config.get(name)
    if type(value) is not kind or not value:
        raise CheckpointError(f"{part / 'config.json'}: {name} cannot be {value!r}; fetch the model again")
    return value
