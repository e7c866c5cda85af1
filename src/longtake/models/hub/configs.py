"""What the JSON files of a model say, before its weights are loaded: of a folder, or of a pipeline that somebody has.

The layout is the hub's, as diffusers saves a pipeline. A file `longtake.json` beside model_index.json may add what has
no place there; see `Extras`. Imports no torch.
"""

import importlib.util
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from annotated_types import Ge, Gt, Le

from longtake.errors import CheckpointError, InputError, unknown_name
from longtake.model import Timing, VideoSpec
from longtake.models.hub.family import Family
from longtake.models.hub.files import (
    check_plain,
    digest,
    gguf_shapes,
    part_shapes,
    plain_name,
    read_json,
    tensor_shapes,
    variant,
)
from longtake.models.hub.find import INDEX, Found, read_index
from longtake.typed import read_typed
from longtake.words import an

EXTRAS = "longtake.json"
ALWAYS = ("fps", "guidance", "learnt_guidance", "forward_flops", "decode_flops", "shared")
"""Fields of `Extras` that mean something for every model."""
OPTIONS = {"size": "--size", "num_frames": "--window"}
"""What takes the place of fields of `Extras` on a command line."""
PACKAGES = {"bitsandbytes": "bitsandbytes", "torchao": "torchao", "quanto": "optimum.quanto", "gguf": "gguf"}
"""What a config calls a way to quantise, and the package that it needs."""
MOST = {"layers|depth|blocks": 500, "timesteps": 10**5, "length|seq_len|position": 2**20, "": 10**8}
"""The most that a count in a config can be, by its name: a larger one fills the memory, or never comes to an end."""
WHOLE_STREAM = 2**16
"""`VideoSpec.decoder_history` of a decoder that takes all latents of a stream together: all are kept."""
Count = Annotated[int, Ge(1)]
Length = Annotated[int, Ge(1), Le(2**16)]
"""Of a table of positions, which is filled as soon as a network is made."""
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Gt(0), Le(1)]
Shapes = dict[str, tuple[int, ...]]
Kind = TypeVar("Kind")


@dataclass(frozen=True, kw_only=True)
class Extras:
    """The content of longtake.json. Which fields mean something, and what holds without them, is the family's."""

    fps: Positive = 8.0
    """Frames per second of its videos, which no config says."""
    guidance: NotNegative = 9.0
    """The guidance that suits the model."""
    learnt_guidance: Annotated[float, Gt(1)] | None = None
    """The guidance that the network says in one branch, where it has learnt one; it takes 1 alone then."""
    infill_guidance: NotNegative | None = None
    """The guidance that suits windows of frames in a row with known ends, where it is another one."""
    num_frames: Count = 16
    """Frames in one call of the network."""
    size: tuple[Count, Count] | None = None
    """Height and width in pixels, for networks that do not say at which they were trained."""
    told_fps: Positive | None = None
    """Frames per second that the network is told of, for networks that want to know (VideoCrafter2)."""
    sigmas: tuple[Share, ...] | None = None
    """Shares of noise, falling from 1, of a network that was distilled to as many steps (FastWan)."""
    use_scale: bool = False
    """Whether training scaled pictures down where there is much noise, to 0.7 (VideoCrafter2; its authors' name)."""
    clean_frames: bool = False
    """Whether the network was trained with finished frames among noisy ones, labelled with timestep 0."""
    vocabulary: list[str] | None = None
    """The words that it was trained on, where others say nothing to it."""
    forward_flops: Count | None = None
    """Floating-point operations of one network evaluation."""
    decode_flops: Count | None = None
    """Floating-point operations to decode one frame."""
    shared: str | None = None
    """A folder beside this one that has the parts which this one lacks, written "../name"."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a model, as its config describes it."""

    where: str
    """Of the config, for people."""
    config: Mapping[str, Any]
    shapes: Callable[[], Shapes]
    """Return its tensors."""
    folder: Path | None = None
    """Where it lies, if on a disk."""
    variant: str | None = None
    """Which of its files to read; see `Found`."""
    file: Path | None = None
    """What holds its weights by itself, where that is not the folder."""

    @property
    def is_quantised(self) -> bool:
        """Return whether its weights are stored as something else than numbers."""
        return "quantization_config" in self.config or (self.file is not None and self.file.suffix == ".gguf")

    @property
    def sources(self) -> list[Path]:
        """Return the folder, or the files, that decide what it makes."""
        if self.folder is None:
            return []
        return [self.folder] if self.file is None else [self.folder / "config.json", self.file]

    def read(self, kind: type[Kind], of: Mapping[str, Any] | None = None) -> Kind:
        """Return the fields of the dataclass `kind`; the config may have others. `of`: a config within this one.

        Raises CheckpointError for one that is missing, or another type.
        """
        config = self.config if of is None else of
        known = {entry.name: config[entry.name] for entry in fields(cast(Any, kind)) if entry.name in config}
        return read_typed(kind, known, self.where, error=CheckpointError)

    @property
    def parameters(self) -> int:
        """How many numbers its tensors hold."""
        return sum(math.prod(shape) for shape in self.shapes().values())

    def error(self, reason: str) -> CheckpointError:
        """Return the error for a config that cannot be."""
        return CheckpointError(f"{self.where}: {reason}; fetch the model again")


@dataclass(frozen=True, kw_only=True)
class Configs:
    """What is said of a model."""

    name: str
    where: str
    """The folder, or what else holds the parts, for people."""
    index: Mapping[str, Any]
    """The content of model_index.json."""
    parts: Mapping[str, Part]
    extras: Mapping[str, Any] = field(default_factory=dict)
    """The content of longtake.json."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Of these, the ones that an option said in its place."""

    def told(self, uses: Collection[str] = (), **defaults: Any) -> Extras:
        """Return what longtake.json says, else the defaults. `uses`: fields beside `ALWAYS` that the family reads.

        Raises CheckpointError for unknown fields and values of another type, InputError for fields without effect.
        """
        for name in sorted(set(self.extras) - {entry.name for entry in fields(Extras)}):
            raise CheckpointError(f"{self.said_in}: {unknown_name('field', name, {*uses, *ALWAYS})}")
        for name in sorted(set(self.extras) - {*uses, *ALWAYS}):
            raise InputError(f"{self.place(name)} has no effect on this model; leave it out")
        return read_typed(Extras, defaults | dict(self.extras), self.said_in, error=CheckpointError)

    @property
    def said_in(self) -> str:
        """Return where fields of `Extras` are said, for people."""
        return f"{self.where}/{EXTRAS}"

    def place(self, name: str) -> str:
        """Return where a field of `Extras` was said, for people."""
        return self.options.get(name, f"{self.said_in}: {name}")

    def check_window(self, num_frames: int, timing: Timing) -> None:
        """Raise InputError for a number of latent frames that the network cannot be given at once."""
        lengths = timing.window_lengths
        if num_frames in lengths:
            return
        place = min(max(0, (num_frames - lengths.start) // lengths.step), len(lengths) - 1)
        raise InputError(
            f"{self.place('num_frames')} {num_frames} is no window of this network, which takes "
            f"{lengths[0]} to {lengths[-1]} latent frames{f' in steps of {lengths.step}' if lengths.step > 1 else ''}; "
            f"the next is {lengths[place]}"
        )

    def picture_size(self, extras: Extras, unit: int) -> tuple[int, int]:
        """Return height and width in pixels, for models whose configs do not say them.

        Raises CheckpointError where nothing does, InputError where they are no multiples of `unit`.
        """
        if extras.size is None:
            raise CheckpointError(f"{self.said_in}: size cannot be null; leave it out, or name height and width")
        height, width = extras.size
        if height % unit or width % unit:
            near = [max(unit, round(side / unit) * unit) for side in extras.size]
            asked = f"{self.place('size')} {height} x {width} does not fit; both must be multiples of {unit}"
            if "size" in self.options:
                asked = (
                    f"{self.place('size')} {width}x{height} does not fit; the nearest that does is {near[1]}x{near[0]}"
                )
            raise InputError(asked)
        return extras.size

    def distilled(self, sigmas: Sequence[float] | None) -> tuple[float, ...]:
        """Return shares of noise that fall from 1 in rising order. Raises CheckpointError for others."""
        shares = sigmas or ()
        if shares and (shares[0] != 1 or any(low >= high for high, low in zip(shares, shares[1:], strict=False))):
            raise CheckpointError(f"{self.said_in}: sigmas must fall from 1, and are {list(shares)}")
        return tuple(shares[::-1])

    @cached_property
    def parameters(self) -> int:
        """How many numbers all parts together hold."""
        return sum(part.parameters for part in self.parts.values())

    @property
    def deciding(self) -> str:
        """Return what longtake.json says of the numbers that the network makes, which is in no other file."""
        fps, is_scaled = self.extras.get("told_fps"), self.extras.get("use_scale")
        return " ".join([*([] if fps is None else [f"told_fps {float(fps)}"]), *(["use_scale"] if is_scaled else [])])

    def digest(self) -> str:
        """Return a hash of everything on the disk that decides what the model makes."""
        return digest([source for part in self.parts.values() for source in part.sources], self.deciding)


def read_extras(folder: Path) -> dict[str, Any]:
    """Return the content of longtake.json, empty where there is none. Raises CheckpointError for a broken one."""
    return read_json(folder / EXTRAS) if (folder / EXTRAS).exists() else {}


def read_configs(found: Found, family: Family, asked: Mapping[str, Any] | None = None) -> Configs:
    """Return what the files of a model of this family say, and in place of longtake.json what was `asked` for by
    options.

    Raises InputError for a model of another kind, CheckpointError for missing or broken files.
    """
    index, extras = read_index(found), read_extras(found.folder) | dict(asked or {})
    places = part_folders(found.folder, family)
    parts = {name: _part(found, family, name, place) for name, place in places.items()}
    for part in parts.values():
        _check_quantiser(part)
    if found.file is not None and {"transformer", "transformer_2"} & places.keys() != {"transformer"}:
        raise InputError(f"{found.folder} has not one transformer, for which {found.file} could stand; give a folder")
    _check_variant(found, [(places[name], stem(name)) for name in family.networks if name in places])
    options = {name: OPTIONS[name] for name in asked or ()}
    where = str(found.folder)
    return Configs(name=found.name, where=where, index=index, parts=parts, extras=extras, options=options)


def part_folders(folder: Path, family: Family) -> dict[str, Path]:
    """Return where each part of a model lies: in the folder, else in the one it shares parts with. Raises InputError
    for a model of another kind, CheckpointError where a part is missing."""
    shared = read_extras(folder).get("shared")
    places = [folder] if shared is None else [folder, _sibling(folder, shared)]
    named = _check_classes(places, family)
    parts = {}
    for part in (*family.networks, *family.others):
        if part in family.optional and part not in named:
            continue
        holding = [place / part for place in places if (place / part).is_dir()]
        if not holding:
            wanted = ", ".join((*family.networks, *family.others))
            elsewhere = f", or {EXTRAS} name a folder that does (shared)" if shared is None else ""
            raise CheckpointError(f"{folder / part} is missing; the folder must hold {wanted}{elsewhere}")
        parts[part] = holding[0]
    return parts


def place_of(part: Part) -> Path:
    """Return where a part lies that is known to be on a disk."""
    assert part.folder is not None
    return part.folder


def stem(part: str) -> str:
    """Return the libraries' name of a part's weight file without its ending."""
    return "model" if part.startswith(("text_encoder", "image_encoder")) else "diffusion_pytorch_model"


def _sibling(folder: Path, shared: Any) -> Path:
    if not isinstance(shared, str):
        raise CheckpointError(f"{folder / EXTRAS}: shared is {shared!r}; it takes the name of a folder beside it")
    sibling = folder.resolve().parent / plain_name(shared.removeprefix("../"), folder / EXTRAS)
    if not sibling.is_dir():
        raise CheckpointError(f"{sibling} is missing; put the folder there that {folder / EXTRAS} shares parts with")
    if sibling == folder.resolve():
        raise CheckpointError(f"{folder / EXTRAS}: shared is this folder itself; name another one beside it")
    return sibling


def _check_classes(places: list[Path], family: Family) -> set[str]:
    """Check that folders hold the classes that are run; return the parts that the first one names."""
    named: set[str] = set()
    for number, place in enumerate(places):
        index = read_json(place / INDEX)
        named = named or {name for name, entry in index.items() if entry not in (None, [None, None])}
        for part, supported in family.networks.items():
            entry = index.get(part, [None, supported])
            found = entry[1] if isinstance(entry, list) and len(entry) == 2 else entry
            is_own = number == 0 or not (places[0] / part).is_dir()
            if is_own and found != supported and not (found is None and part in family.optional):
                has = "no" if found is None else f"{an(found)} as"
                raise InputError(f"{place} has {has} {part}; longtake runs folders with {an(supported)} there")
    return named


def _part(found: Found, family: Family, name: str, place: Path) -> Part:
    for file in place.iterdir():
        check_plain(file)
    if name in ("scheduler", "guider"):
        config = place / f"{name}_config.json"
        _check_counts(content := read_json(config), str(config))
        return Part(where=str(config), config=content, shapes=dict, folder=place)
    if name not in family.networks:
        entry = read_index(found).get(name)
        config = {"_class_name": entry[1]} if isinstance(entry, list) and len(entry) == 2 else {}
        return Part(where=str(place), config={"_class_name": "AutoTokenizer"} | config, shapes=dict, folder=place)
    config, supported = place / "config.json", family.networks[name]
    content = read_json(config)
    if content.get("_class_name", supported) != supported:
        shown = content["_class_name"]
        raise InputError(f"{place} is {an(shown)}; longtake runs folders with {an(supported)} there")
    _check_counts(content, str(config))

    file = found.file if name == "transformer" else None
    if file is not None and not family.single_file:
        raise InputError(f"{file}: diffusers reads no {supported} of a single file; give --model a folder")

    def shapes() -> Shapes:
        if file is not None:
            return tensor_shapes(file) if file.suffix != ".gguf" else gguf_shapes(file)
        return part_shapes(place, stem(name), found.variant)

    return Part(where=str(config), config=content, shapes=shapes, folder=place, variant=found.variant, file=file)


def _check_variant(found: Found, networks: list[tuple[Path, str]]) -> None:
    """Raise InputError where no part has weights of the variant that was asked for."""
    wanted = found.variant
    if wanted is not None and all(variant(place, stem, wanted) != wanted for place, stem in networks):
        raise InputError(f"{found.folder} holds no weights of the variant {wanted!r}; leave --variant out")


def _check_quantiser(part: Part) -> None:
    """Raise CheckpointError where a part was quantised by a package that is not installed."""
    quantised = part.config.get("quantization_config")
    if quantised is None:
        return
    method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
    package = PACKAGES.get(str(method))
    if package is None:
        raise CheckpointError(
            f"{part.where}: quantization_config names {method!r}, which longtake does not know; take the weights as "
            "they were before that"
        )
    if importlib.util.find_spec(package.split(".")[0]) is None:
        pip = package.replace(".", "-")
        raise CheckpointError(f"{part.where} is quantised by {method}, which is not installed; pip install {pip}")


def _check_counts(content: Any, where: str, name: str = "") -> None:
    """Raise CheckpointError for a count that no network has; see `MOST`."""
    if isinstance(content, dict):
        for key, value in content.items():
            _check_counts(value, where, key)
    elif isinstance(content, list):
        for value in content:
            _check_counts(value, where, name)
    elif isinstance(content, int):
        most = next(limit for pattern, limit in MOST.items() if re.search(pattern, name))
        if not abs(content) <= most:
            raise CheckpointError(f"{where}: {name} cannot be {content!r}; fetch the model again")


@dataclass(frozen=True, kw_only=True)
class TextEncoder:
    """What is read of the config of a text encoder."""

    max_position_embeddings: Count | None = None
    d_model: Count = 512
    """Width of T5 and its like; the default is the library's."""


def with_tokenizer(spec: VideoSpec, configs: Configs) -> VideoSpec:
    """Return the spec with what is known of the model's tokenizer: how much of a prompt is read, and by which file."""
    tokenizer, encoder = configs.parts.get("tokenizer"), configs.parts.get("text_encoder")
    if tokenizer is None or encoder is None:
        return spec
    limits = [spec.prompt_tokens, encoder.read(TextEncoder).max_position_embeddings]
    file = None
    if tokenizer.folder is not None:
        file, settings = tokenizer.folder / "tokenizer.json", tokenizer.folder / "tokenizer_config.json"
        told = read_json(settings).get("model_max_length") if settings.exists() else None
        # Where no length is known, transformers writes 10^30.
        limits += [told] if spec.prompt_tokens is None and isinstance(told, int) else []
    most = min((limit for limit in limits if limit is not None), default=None)
    return replace(spec, prompt_tokens=most, tokenizer=str(file) if file is not None and file.exists() else None)
