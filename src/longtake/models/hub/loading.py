"""Which weights of a model are taken, and where they lie: settings of every command that loads one, and keywords of
`load_model`. Imports no torch."""

import hashlib
import importlib.util
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from longtake.errors import CheckpointError, InputError, unknown_name
from longtake.model import VideoSpec
from longtake.models.hub.configs import Configs, Count
from longtake.models.hub.family import Family
from longtake.models.hub.files import tensor_shapes, told_in
from longtake.request import Guidance, GuidanceByLevel
from longtake.typed import Flag, Setting, Typed, read_typed

Offload = Literal["none", "text", "model", "group"]
Quantise = Literal["fp8", "int8"]
DENOISERS = ("transformer", "transformer_2", "unet", "controlnet")
"""Parts of a pipeline whose calls make up the denoising."""
DECIDING = ("size", "window", "wrap", "attention_backend", "compile", "vae_tiling")
"""Settings beside LoRAs and 8 bits that decide what a model makes."""
LORA_FILE = "pytorch_lora_weights.safetensors"
"""Name of a LoRA in a folder, diffusers' own."""
TOLD = "longtake"
"""Under this name a LoRA that was learnt here says, in JSON, what it is."""


@dataclass(frozen=True, kw_only=True)
class Lora:
    """What is added to the weights of a model."""

    file: Path
    scale: float

    @property
    def guidance(self) -> Guidance | None:
        """Return the guidance that one branch says with it, None where it was not made for that.

        Raises CheckpointError for what cannot be.
        """
        told = read_typed(_Told, told_in(self.file).get(TOLD, "{}").encode(), str(self.file), error=CheckpointError)
        return GuidanceByLevel(*told.guidance) if isinstance(told.guidance, tuple) else told.guidance


@dataclass(frozen=True, kw_only=True)
class _Unet:
    """What is read of the config of a UNet of convolutions; the default is the library's."""

    block_out_channels: tuple[Count, ...] = (320, 640, 1280, 1280)


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What a LoRA says of itself."""

    guidance: float | tuple[float, float, float] | None = None
    base: str | None = None
    recipe: str | None = None


@dataclass(frozen=True, kw_only=True)
class Loading(Typed):
    """Which weights of a model are taken, and where they lie."""

    revision: Annotated[str | None, Setting(metavar="NAME", unset="main")] = None
    """Branch, tag or commit of a model that --model names by its hub id."""
    download: Flag = False
    """Fetch what is missing of a model that is named by its hub id, after saying how large that is."""
    offline: Flag = False
    """Never ask the hub, not even how large a model is that is not in its cache; as HF_HUB_OFFLINE."""
    base: Annotated[str | None, Setting(metavar="FOLDER|ID", unset="none")] = None
    """The pipeline of a --model that is a transformer by itself (.safetensors as ComfyUI has it, or .gguf): its other
    parts, and the transformer's config."""
    variant: Annotated[str | None, Setting(metavar="WORD", unset="plain files, else fp16")] = None
    """Take the files of weights that have this word in their name, such as fp16."""

    size: Annotated[str | None, Setting(metavar="WxH", unset="the model's own")] = None
    """Width and height of the video in pixels, for networks that take others than they were trained at."""
    window: Annotated[int | None, Setting(metavar="N", unset="the model's own")] = None
    """Frames in one call of the network, in latent frames: 21 of Wan are 81 frames of the video."""

    wrap: Flag = False
    """Let the right side of every picture go on at the left, as a panorama of 360 degrees does."""

    lora: Annotated[tuple[str, ...], Setting(metavar="PATH[:SCALE]", unset="none", repeated=True)] = ()
    """A LoRA (.safetensors, or a folder with pytorch_lora_weights.safetensors) that is added to the weights, at 1 or so
    much of its strength; may be given several times."""
    quantize: Annotated[Quantise | None, Setting(metavar="fp8|int8", unset="as they are")] = None
    """Store the weights of the network that denoises in 8 bits: fp8 on any machine, int8 with the package torchao. The
    numbers that it computes with are those of --dtype; pictures differ a little."""
    attention_backend: Annotated[str | None, Setting(metavar="NAME", unset="torch's own")] = None
    """What attends in the network, by diffusers' name: native, flex, flash, sage, xformers and others."""
    vae_tiling: Flag = False
    """Decode frames in tiles of at most 512 pixels a side, which overlap by 64: takes less memory at a time, and
    changes pictures a little."""
    compile: Flag = False
    """Compile the network that denoises (torch.compile): minutes at the start, then faster calls."""
    offload: Annotated[
        Offload | Literal["auto"] | None, Setting(metavar="none|text|model|group|auto", unset="text on a GPU")
    ] = None
    """What leaves the GPU's memory between its calls: none, the text encoder, all parts but the one that computes, or
    (group) the text encoder and the blocks of the network, which come in one after the other. No frame changes; model
    takes time at every change from network to decoder, group at every call. auto takes the first that fits."""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Loading":
        """Return the settings that keywords of `load_model` are. Raises InputError, with the nearest, for none."""
        known = {"device", "dtype", *(entry.name for entry in fields(cls))}
        if others := sorted(given.keys() - known):
            raise unknown_name("keyword of load_model", others[0], known)
        return cls(**given)

    @property
    def asked(self) -> dict[str, Any]:
        """Return what takes the place of longtake.json, by its names. Raises InputError for what is no size."""
        size = None if self.size is None else re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", self.size)
        if self.size is not None and size is None:
            raise InputError(f"--size {self.size!r} is no width and height; write them as 832x480")
        if self.window is not None and self.window < 1:
            raise InputError(f"--window {self.window} holds no frame; give 1 or more latent frames")
        sides = {} if size is None else {"size": [int(size[2]), int(size[1])]}
        return sides | ({} if self.window is None else {"num_frames": self.window})

    def digest(self, digest: str) -> str:
        """Return that of a model to which LoRAs were added, and whose weights were quantised after that; what else
        decides its numbers counts, too."""
        for lora in self.loras:
            content = hashlib.sha256(lora.file.read_bytes()).hexdigest()
            digest = _joined(digest, f"{content} {lora.scale}")
        if self.quantize is not None:
            digest = _joined(digest, self.quantize)
        for name, value in self.told.items():
            if name in DECIDING:
                digest = _joined(digest, f"{name} {value}")
        return digest

    @property
    def loras(self) -> list["Lora"]:
        """Return the LoRAs. Raises InputError for a path that leads to none, CheckpointError for a damaged file."""
        return [_lora(word) for word in self.lora]

    @property
    def absolute(self) -> "Loading":
        """Return the same with paths that hold in any folder, and with everything there."""
        is_here = self.base is not None and Path(self.base).expanduser().exists()
        base = str(Path(self.base or "").expanduser().resolve()) if is_here else self.base
        here = replace(self, download=False, offline=False)
        return replace(here, base=base, lora=tuple(f"{lora.file.resolve()}:{lora.scale!r}" for lora in self.loras))

    def offload_on(self, device: str) -> Offload:
        """Return what leaves this device. Raises InputError where there is nowhere to go."""
        if not device.startswith("cpu"):
            # What auto takes is settled once the plan and the device are known.
            return "none" if self.offload == "auto" else self.offload or "text"
        if self.offload is not None:
            raise InputError(f"--offload {self.offload} has no effect on a CPU, which has one memory; leave it out")
        return "none"

    def check(self, family: Family) -> None:
        """Raise InputError for settings that do not fit a family, each other, or what is installed."""
        if family.whole and self.offload not in (None, "none"):
            raise InputError(
                f"--offload {self.offload} does not fit {family.models}, whose call moves its parts itself; leave it "
                "out, or offload the pipeline by diffusers and give it to longtake.from_pipe"
            )
        if self.offload in ("model", "group") and not family.takes_turns:
            raise InputError(
                f"--offload {self.offload} does not fit {family.models}, whose layers are called one by one; "
                "use --offload text"
            )
        if self.offload == "group" and self.quantize == "int8":
            raise InputError(
                "--offload group does not fit --quantize int8, whose weights do not move by blocks; use fp8"
            )
        if self.vae_tiling and not (family.tiles or family.whole):
            raise InputError(
                f"--vae-tiling does not fit {family.models}, whose decoder looks at whole clips; leave it out"
            )
        if self.wrap and not family.wraps:
            raise InputError(
                f"--wrap does not fit {family.models}: it joins what convolutions see at the sides of a picture, and "
                "not all of it is convolutions; leave it out"
            )
        if self.wrap and self.vae_tiling:
            raise InputError("--wrap does not fit --vae-tiling, whose tiles have sides of their own; leave one out")
        for option, value in (("--compile", self.compile), ("--attention-backend", self.attention_backend)):
            if value and not family.compiles:
                raise InputError(
                    f"{option} does not fit {family.models}, whose network is not run as diffusers wrote it; "
                    "leave it out"
                )
        if self.compile and self.offload in ("model", "group"):
            raise InputError(
                f"--compile does not fit --offload {self.offload}, which moves the network between its calls; use text"
            )
        if self.quantize == "int8" and importlib.util.find_spec("torchao") is None:
            raise InputError("--quantize int8 needs torchao, which is not installed; pip install torchao, or use fp8")

    def checked(self, spec: VideoSpec, configs: Configs) -> VideoSpec:
        """Return the spec of a model that is loaded so. Raises InputError where its sides cannot meet: for a width that
        its network does not halve evenly."""
        if self.wrap:
            cells = 2 ** (len(configs.parts["unet"].read(_Unet).block_out_channels) - 1)
            if spec.latent_shape[-1] % cells:
                unit = spec.width // spec.latent_shape[-1] * cells
                raise InputError(
                    f"--wrap needs a width of whole multiples of {unit} pixels, so that both sides are halved alike, "
                    f"which {spec.width} is not; give another --size"
                )
        return spec

    def quantised(self, configs: Configs, family: Family) -> list[str]:
        """Return the parts whose weights are to be stored in 8 bits: those that denoise. Raises InputError where that
        cannot be: for networks of our own, for one that is quantised."""
        if self.quantize is None:
            return []
        parts = [name for name in DENOISERS if name in configs.parts]
        # A room loads networks of its own, and leaves others to diffusers.
        if importlib.util.find_spec(f"{family.room}.load"):
            raise InputError(f"--quantize does not fit {family.models}: its network is not of diffusers; leave it out")
        for part in (configs.parts[name] for name in parts):
            if part.is_quantised:
                raise InputError(f"{part.where} is quantised already; leave --quantize out")
        return parts

    @property
    def told(self) -> dict[str, Any]:
        """Return what differs from the defaults, by the names of the fields."""
        return {entry.name: value for entry in fields(self) if (value := asdict(self)[entry.name]) != entry.default}

    @property
    def decides(self) -> dict[str, Any]:
        """Return those of them on which the weights, or what is made with these, may depend."""
        return {name: value for name, value in self.told.items() if name not in ("download", "offline", "offload")}


def taught(spec: VideoSpec, *learnt: Guidance | None) -> VideoSpec:
    """Return the spec of a model that says a guidance in one branch: the last of those that it has learnt, if any."""
    known = [guidance for guidance in learnt if guidance is not None]
    return replace(spec, guidance=1.0, infill_guidance=None, learnt_guidance=known[-1]) if known else spec


def _joined(digest: str, more: str) -> str:
    return hashlib.sha256(f"{digest} {more}".encode()).hexdigest()


def _lora(word: str) -> Lora:
    if not word:
        raise InputError(f"--lora is empty; give a .safetensors file, or a folder with {LORA_FILE}")
    path, _, said = word.rpartition(":")
    try:
        scale = float(said) if path else 1.0
    except ValueError:
        path, scale = word, 1.0
    if not math.isfinite(scale):
        raise InputError(f"--lora {word}: the scale cannot be {scale}; give a number that is finite")
    file = Path(path or word).expanduser()
    if file.is_dir():
        file = file / LORA_FILE
    if path == word and said and Path(word.removesuffix(f":{said}")).expanduser().exists():
        raise InputError(f"--lora {word}: the scale cannot be {said!r}; give a number, such as 0.8")
    if not file.exists():
        raise InputError(f"--lora {word}: there is no file {file}; check the path")
    if not file.is_file() or file.suffix != ".safetensors":
        raise InputError(f"--lora {word}: {file} is no .safetensors file; give one, or a folder with {LORA_FILE}")
    if not any("lora" in name.lower() for name in tensor_shapes(file)):
        raise InputError(f"--lora {word}: {file} holds weights, but no LoRA; give one, or a --model")
    return Lora(file=file, scale=scale)
