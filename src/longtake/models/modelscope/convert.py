"""Assembles a VideoCrafter2 folder in the hub's layout: its UNet, and ZeroScope's other parts."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtake.errors import CheckpointError, InputError
from longtake.models import FAMILIES
from longtake.models.hub.configs import EXTRAS, part_folders, stem
from longtake.models.hub.convert import copy_part, link, new_folder, read_pickled, write_tensors
from longtake.models.hub.files import part_shapes, read_json, weight_files
from longtake.models.hub.find import INDEX
from longtake.models.modelscope.spec import FPS_EMBEDDING
from longtake.typed import Typed
from longtake.words import an

if TYPE_CHECKING:
    from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]
FAMILY = FAMILIES["TextToVideoSDPipeline"]
PREFIX = "model.diffusion_model."
"""Of the UNet's tensors in the authors' checkpoint."""
RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
"""Layers of a residual block in the authors' checkpoint, and what diffusers calls them."""


@dataclass(frozen=True, kw_only=True)
class Assembly(Typed):
    """What goes into the folder, beside the weights."""

    told_fps: float = 28.0
    """Frames per second that the network is told of: more means smaller steps between frames."""
    fps: float = 10.0
    """Frames per second of the videos that the model makes."""
    guidance: float = 12.0
    """The guidance that the model uses unless told otherwise."""
    height: int = 320
    """Of its videos, in pixels."""
    width: int = 512
    """Of its videos, in pixels."""

    def __post_init__(self) -> None:
        """Raise InputError for rates and a guidance that cannot be."""
        super().__post_init__()
        if self.told_fps <= 0 or self.fps <= 0 or self.guidance < 0:
            raise InputError("--told-fps and --fps must be above 0, --guidance 0 or more")


def assemble(source: Path, parts: Path, output: Path, settings: Assembly) -> None:
    """Write a complete model folder to `output`, which must not exist; files are linked where the disk allows it.

    `source` is the folder of a UNet in the hub's layout (or one that has it as unet/), or the authors' checkpoint;
    `parts` is ZeroScope's folder. Raises InputError and CheckpointError for sources that do not fit, OutputError for an
    output that exists; then nothing is written.
    """
    found = read_json(parts / INDEX).get("_class_name")
    if found != FAMILY.pipeline:
        raise InputError(f"{parts} is {an(found)}; the other parts are those of {an(FAMILY.pipeline)}")
    places = part_folders(parts, FAMILY)
    folder = _unet_folder(source)
    config = read_json((folder or places["unet"]) / "config.json")
    config |= {"sample_size": _latent_size(config, read_json(places["vae"] / "config.json"), settings)}
    with new_folder(output) as draft:
        (draft / "unet").mkdir()
        (draft / "unet" / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        _write_weights(source, folder, config, draft / "unet")
        for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
            copy_part(places[part], draft / part)
        shutil.copy(parts / INDEX, draft)
        extras = {"fps": settings.fps, "guidance": settings.guidance, "told_fps": settings.told_fps, "use_scale": True}
        (draft / EXTRAS).write_text(json.dumps(extras, indent=2), encoding="utf-8")


def _unet_folder(source: Path) -> Path | None:
    """Return the folder that holds the UNet, None for a checkpoint in one file."""
    if source.is_file():
        return None
    for folder in (source, source / "unet"):
        if (folder / "config.json").is_file():
            found = read_json(folder / "config.json").get("_class_name")
            if found != FAMILY.networks["unet"]:
                raise InputError(f"{folder} holds {an(found)}; give a folder with {an(FAMILY.networks['unet'])}")
            return folder
    raise InputError(f"{source} is no folder of a UNet in the hub layout, and no checkpoint; check the path")


def _latent_size(unet: dict[str, Any], vae: dict[str, Any], settings: Assembly) -> list[int]:
    cell, halvings = 2 ** (len(vae["block_out_channels"]) - 1), len(unet["block_out_channels"]) - 1
    unit = cell * 2**halvings
    if settings.height % unit or settings.width % unit or min(settings.height, settings.width) < unit:
        raise InputError(f"{settings.width}x{settings.height} is not possible: both must be multiples of {unit}")
    return [settings.height // cell, settings.width // cell]


def _write_weights(source: Path, folder: Path | None, config: dict[str, Any], target: Path) -> None:
    """Put the tensors into the folder `target` as safetensors, under diffusers' names."""
    pickled = source if folder is None else folder / f"{stem('unet')}.bin"
    if folder and (list(folder.glob("*.safetensors")) or not pickled.is_file()):
        _check(part_shapes(folder, stem("unet")), config, source)
        for file in [*weight_files(folder, stem("unet")), *folder.glob("*.safetensors.index*.json")]:
            link(file, target / file.name)
        return
    tensors = _unpickled(pickled, config)
    _check({name: tuple(tensor.shape) for name, tensor in tensors.items()}, config, source)
    write_tensors(tensors, target / f"{stem('unet')}.safetensors", source)


def _unpickled(source: Path, config: dict[str, Any]) -> "dict[str, Tensor]":
    """Return the UNet of a checkpoint, of which nothing but tensors is read, under diffusers' names."""
    from torch import Tensor

    content = read_pickled(source)
    content = content.get("state_dict", content)
    tensors = {name: tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}
    theirs = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    if not theirs:
        return tensors
    modules = module_names(config)
    return {library_name(name, modules) or name: _as_linear(name, tensor) for name, tensor in theirs.items()}


def _as_linear(name: str, tensor: "Tensor") -> "Tensor":
    """Return the weight of a linear layer where the authors have a convolution of kernel 1 (their `init_attn`)."""
    is_kernel_1 = name.endswith((".proj_in.weight", ".proj_out.weight")) and tensor.ndim == 3 and tensor.shape[2] == 1
    return tensor[..., 0] if is_kernel_1 else tensor


def _check(shapes: Shapes, config: dict[str, Any], source: Path) -> None:
    """Compare tensors with those of the network that the config describes, together with its fps embedding."""
    import torch
    from diffusers import UNet3DConditionModel

    from longtake.models.hub.load import one_line_errors

    with one_line_errors(source), torch.device("meta"):
        network: Any = UNet3DConditionModel.from_config(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    wanted |= {name: wanted[name.replace("fps", "time")] for name in FPS_EMBEDDING}
    for name in sorted(set(shapes) - set(wanted)):
        raise InputError(f"{source} has the tensor {name}, which VideoCrafter2 does not have; is it another model?")
    for name in sorted(set(wanted) - set(shapes)):
        raise InputError(f"{source} lacks the tensor {name}, which VideoCrafter2 has; is it another model?")
    for name in sorted(shapes):
        if shapes[name] != wanted[name]:
            raise CheckpointError(f"{source}: {name} has the shape {list(shapes[name])}, not {list(wanted[name])}")


def library_name(name: str, modules: dict[str, str]) -> str | None:
    """Return diffusers' name of a tensor of the authors' checkpoint, None for one that has none.

    `modules` is what `module_names` returns.
    """
    fitting = [module for module in modules if name.startswith(f"{module}.")]
    if not fitting:
        return None
    longest = max(fitting, key=len)
    return modules[longest] + name.removeprefix(longest)


def module_names(config: dict[str, Any]) -> dict[str, str]:
    """Return the modules of the authors' network and what diffusers calls them, for a UNet of this config.json."""
    num_layers = config["layers_per_block"]
    names = {
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "fps_embedding.0": "fps_embedding.linear_1",
        "fps_embedding.2": "fps_embedding.linear_2",
        "input_blocks.0.0": "conv_in",
        "init_attn.0": "transformer_in",
        "middle_block.1": "mid_block.attentions.0",
        "middle_block.2": "mid_block.temp_attentions.0",
        "out.0": "conv_norm_out",
        "out.2": "conv_out",
    }
    names |= dict(_resnet("middle_block.0", "mid_block", 0))
    names |= dict(_resnet("middle_block.3", "mid_block", 1))
    num_stages = len(config["down_block_types"])
    place = 1
    for stage, kind in enumerate(config["down_block_types"]):
        block = f"down_blocks.{stage}"
        for layer in range(num_layers):
            names |= dict(_stage(f"input_blocks.{place}", block, layer, kind.startswith("CrossAttn")))
            place += 1
        if stage < num_stages - 1:
            names[f"input_blocks.{place}.0.op"] = f"{block}.downsamplers.0.conv"
            place += 1
    for stage, kind in enumerate(config["up_block_types"]):
        block, attends = f"up_blocks.{stage}", kind.startswith("CrossAttn")
        first = stage * (num_layers + 1)
        for layer in range(num_layers + 1):
            names |= dict(_stage(f"output_blocks.{first + layer}", block, layer, attends))
        if stage < num_stages - 1:
            names[f"output_blocks.{first + num_layers}.{3 if attends else 1}.conv"] = f"{block}.upsamplers.0.conv"
    return names


def _stage(theirs: str, block: str, layer: int, attends: bool) -> Iterator[tuple[str, str]]:
    yield from _resnet(f"{theirs}.0", block, layer)
    if attends:
        yield f"{theirs}.1", f"{block}.attentions.{layer}"
        yield f"{theirs}.2", f"{block}.temp_attentions.{layer}"


def _resnet(theirs: str, block: str, layer: int) -> Iterator[tuple[str, str]]:
    """Pair the layers of a residual block, whose convolutions over time are within it in the authors' checkpoint."""
    for inner, name in RESNET.items():
        yield f"{theirs}.{inner}", f"{block}.resnets.{layer}.{name}"
    # Misspelt there.
    yield f"{theirs}.temopral_conv", f"{block}.temp_convs.{layer}"
