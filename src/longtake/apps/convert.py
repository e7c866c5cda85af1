"""`longtake convert`: other people's checkpoints into folders that --model takes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from longtake.apps.arguments import Answer, parse_arguments
from longtake.errors import InputError
from longtake.models import model_spec
from longtake.models.modelscope.convert import Assembly, assemble
from longtake.typed import Setting


@dataclass(frozen=True, kw_only=True)
class VideoCrafter2Settings(Answer):
    """Make a model folder of VideoCrafter2's UNet and ZeroScope's other parts, as Video-Infinity's authors did."""

    source: Annotated[Path | None, Setting(positional=True, metavar="UNET_FOLDER|CKPT")] = None
    """The UNet in the hub layout (adamdad/videocrafterv2_diffusers), or VideoCrafter's own model.ckpt."""
    parts: Annotated[Path | None, Setting(metavar="FOLDER", unset="none")] = None
    """ZeroScope's folder in the hub layout (cerspense/zeroscope_v2_576w); gives everything but the UNet."""
    output: Annotated[Path, Setting(short="-o", metavar="PATH")] = Path("videocrafter2")
    """The folder to write, for --model."""
    assembly: Annotated[Assembly, Setting(name="")] = Assembly()


def videocrafter2_command(arguments: Sequence[str]) -> int:
    """Write the folder."""
    settings = parse_arguments(VideoCrafter2Settings, "convert videocrafter2", arguments)
    if settings.source is None:
        raise InputError("what to convert is missing; give the folder of the UNet, or VideoCrafter's model.ckpt")
    if settings.parts is None:
        raise InputError("--parts is missing; give ZeroScope's folder, which has the other parts of the model")
    output = settings.output.expanduser()
    assemble(settings.source.expanduser(), settings.parts.expanduser(), output, settings.assembly)
    return _say(output, settings)


@dataclass(frozen=True, kw_only=True)
class SafetensorsSettings(Answer):
    """Make a model folder of one whose weights lie there as .bin, without running anything that they hold."""

    source: Annotated[str | None, Setting(positional=True, metavar="FOLDER|ID")] = None
    """A model folder in the hub layout, or the id of one in the hub's cache."""
    output: Annotated[Path | None, Setting(short="-o", metavar="PATH", unset="none")] = None
    """Where to write the same model with its weights as safetensors."""


def safetensors_command(arguments: Sequence[str]) -> int:
    """Write the folder."""
    settings = parse_arguments(SafetensorsSettings, "convert safetensors", arguments)
    if settings.source is None or settings.output is None:
        raise InputError("give the folder to convert, and with -o the folder to write")
    from longtake.models.hub.convert import to_safetensors

    output = settings.output.expanduser()
    to_safetensors(settings.source, output)
    return _say(output, settings)


def _say(output: Path, settings: Answer) -> int:
    spec = model_spec(str(output))
    if settings.json:
        print(json.dumps({"folder": str(output), "parameters": spec.parameters}))
    else:
        print(f"{output}: {spec.width}x{spec.height}, {spec.parameters / 1e6:.1f} M weights")
    return 0


@dataclass(frozen=True, kw_only=True)
class PvdmSettings(Answer):
    """Make a model folder of the checkpoints of PVDM's authors: an autoencoder and a UNet."""

    sources: Annotated[tuple[Path, ...], Setting(positional=True, metavar="PTH...")] = ()
    """model_last.pth of the first stage, and ema_model_N.pth or model_last.pth of the second; in one call or in two."""
    output: Annotated[Path, Setting(short="-o", metavar="PATH")] = Path("pvdm")
    """The folder to write, for --model; what it lacks may be added later."""
    fps: float | None = None
    """Frames per second of the videos that the model was trained on; 25, those of UCF-101, if not given."""


def pvdm_command(arguments: Sequence[str]) -> int:
    """Write the folder, or add to it."""
    settings = parse_arguments(PvdmSettings, "convert pvdm", arguments)
    if not settings.sources:
        raise InputError("what to convert is missing; give the authors' model_last.pth, of one stage or of both")
    if settings.fps is not None and settings.fps <= 0:
        raise InputError("--fps must be above 0")
    from longtake.models.pvdm.convert import convert_checkpoints

    output = settings.output.expanduser()
    lacking = convert_checkpoints([source.expanduser() for source in settings.sources], output, settings.fps)
    if settings.json:
        print(json.dumps({"folder": str(output), "lacking": lacking}))
    elif lacking:
        print(f"{output}: still needs the {lacking[0]}; convert its checkpoint into the same folder")
    else:
        spec = model_spec(str(output))
        size = f"{spec.num_frames} frames of {spec.width}x{spec.height}"
        print(f"{output}: {size}, {spec.parameters / 1e6:.1f} M weights")
    return 0
