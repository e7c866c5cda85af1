"""Turns the authors' checkpoints (github.com/sihyun-yu/PVDM) into a folder that `load_model` takes: their names for our
tensors, and the sizes that they imply."""

import math
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from longtake.errors import CheckpointError, InputError, OutputError
from longtake.models.hub.convert import read_pickled
from longtake.models.hub.files import read_json
from longtake.models.pvdm.autoencoder import PvdmAutoencoder
from longtake.models.pvdm.config import AutoencoderConfig, Grid, UnetConfig
from longtake.models.pvdm.load import count_flops, save_index, save_network
from longtake.models.pvdm.spec import NETWORKS, PIPELINE, part_name, read_config
from longtake.models.pvdm.unet import PvdmUnet
from longtake.reading import refuse_file, refuse_no_place

HEADS = 8
"""Of the released UNets; no tensor says it."""
FPS = 25.0
"""Of UCF-101."""
Rules = tuple[tuple[str, str], ...]
PREFIX = r"^(module\.)?(diffusion_model\.)?"
"""Of names that were saved from a wrapper."""
CONSTANTS = re.compile(r"(coords|(en|de)coder\.(frame_rot_emb\.inv_freqs|image_rot_emb\.scales)|zeros)")
"""Tensors that hold no weights: positions and an empty condition."""

AUTOENCODER: Rules = (
    (r"^(en|de)coder\.layers\.(\d+)\.0\.", r"\1coder.layers.\2.time."),
    (r"^(en|de)coder\.layers\.(\d+)\.1\.", r"\1coder.layers.\2.space."),
    (r"^(en|de)coder\.layers\.(\d+)\.2\.", r"\1coder.layers.\2.mlp."),
    (r"^(xy|yt|xt)_quant_attn\.layers\.(\d+)\.0\.", r"pools.\1.layers.\2.attention."),
    (r"^(xy|yt|xt)_quant_attn\.layers\.(\d+)\.1\.", r"pools.\1.layers.\2.mlp."),
    (r"^(xy|yt|xt)_token$", r"pools.\1.token"),
    (r"^(xy|yt|xt)_pos_embedding$", r"pools.\1.positions"),
    (r"^pre_(xy|yt|xt)\.", r"pools.\1.to_plane."),
    (r"^post_(xy|yt|xt)\.", r"from_planes.\1."),
    # Their planes bear the axes that are left, ours the axis that was folded.
    (r"(^|\.)xy\.", r"\1time."),
    (r"(^|\.)yt\.", r"\1height."),
    (r"(^|\.)xt\.", r"\1width."),
    (r"\.fn\.to_qkv\.", ".qkv."),
    (r"\.fn\.to_out\.0\.", ".out."),
    (r"\.fn\.net\.0\.", ".expand."),
    (r"\.fn\.net\.3\.", ".contract."),
    (r"^encoder\.to_patch_embedding\.", "from_pixels."),
    (r"^to_pixel\.1\.", "to_pixels."),
)

UNET: Rules = (
    (r"^time_embed\.", "embed."),
    (r"^input_blocks\.0\.0\.", "first."),
    (r"^input_blocks\.(\d+)\.0\.", r"down.\1.block."),
    (r"^input_blocks\.(\d+)\.1\.", r"down.\1.attention."),
    (r"^input_attns\.(\d+)\.", r"down.\1.joint.positions."),
    (r"^middle_block\.0\.", "middle.first."),
    (r"^middle_block\.1\.", "middle.attention."),
    (r"^middle_block\.2\.", "middle.second."),
    (r"^mid_attn\.", "middle.joint.positions."),
    (r"^output_blocks\.(\d+)\.0\.", r"up.\1.block."),
    (r"^output_blocks\.(\d+)\.\d\.(norm|qkv|proj_out)\.", r"up.\1.attention.\2."),
    (r"^output_blocks\.(\d+)\.\d\.", r"up.\1.enlarge."),
    (r"^output_attns\.(\d+)\.", r"up.\1.joint.positions."),
    (r"^out\.0\.", "last_norm."),
    (r"^out\.2\.", "last."),
    (r"\.in_layers\.0\.", ".norm_in."),
    (r"\.in_layers\.2\.", ".conv_in."),
    (r"\.emb_layers\.1\.", ".embed."),
    (r"\.out_layers\.0\.", ".norm_out."),
    (r"\.out_layers\.3\.", ".conv_out."),
    (r"\.skip_connection\.", ".skip."),
    (r"\.proj_out\.", ".out."),
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A network that was read from a checkpoint, and fits."""

    config: AutoencoderConfig | UnetConfig
    """What the tensors make up."""
    tensors: dict[str, Tensor]
    """All of the network's, under our names."""


def convert_checkpoints(sources: Sequence[Path], output: Path, fps: float | None) -> list[str]:
    """Write the networks in the files `sources` to the folder `output`, and return which parts it still lacks.

    An autoencoder and a UNet, in any order, in one call or two; `fps` are frames per second of the model's videos.
    Raises CheckpointError for files that cannot be read, InputError for anything else than a PVDM network, OutputError
    for a part that is there already, and where no folder can be.
    """
    refuse_no_place(output, folder=True)
    refuse_file(output)
    if output.exists() and read_json(output / "model_index.json").get("_class_name") != PIPELINE:
        raise OutputError(f"{output} holds another model; choose another name, or remove it")
    contents = {source: _read(source) for source in sources}
    grid = _known_grid(output)
    parts: dict[str, Part] = {}
    for source in sorted(sources, key=lambda source: is_unet(contents[source])):
        content = contents[source]
        part = _unet(content, grid, source) if is_unet(content) else _autoencoder(content, source)
        grid = part.config.grid
        name = part_name(part.config)
        if name in parts:
            raise InputError(f"{source} is a second {name}; give one of each")
        if (output / name).exists():
            raise OutputError(f"{output / name} exists; choose another folder, or remove it")
        parts[name] = part
    _write(parts, output, fps)
    return [name for name in NETWORKS if not (output / name).is_dir()]


def _read(source: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint, of which nothing but tensors is read."""
    content = read_pickled(source)
    if not content:
        raise InputError(f"{source} holds no tensors by name; give model_last.pth or ema_model_N.pth of PVDM")
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise InputError(f"{source} holds {name!r}, which is no tensor; give a file of weights alone")
    return content


def _known_grid(output: Path) -> Grid:
    """Return the grid of the autoencoder that is in the folder already, else that of the released models."""
    place = output / "autoencoder"
    return read_config(AutoencoderConfig, place).grid if place.is_dir() else Grid()


def _autoencoder(theirs: dict[str, Tensor], source: Path) -> Part:
    ours = our_autoencoder(theirs)
    try:
        config = autoencoder_config(ours)
    except (LookupError, ValueError, ArithmeticError, InputError):
        raise InputError(f"{source} is neither an autoencoder nor a UNet of PVDM; check the file") from None
    with torch.device("meta"):
        network = PvdmAutoencoder(config)
    return Part(config=config, tensors=_checked(ours, network, source))


def _unet(theirs: dict[str, Tensor], grid: Grid, source: Path) -> Part:
    ours = our_unet(theirs)
    try:
        config = unet_config(ours, grid, HEADS)
    except (LookupError, ValueError, ArithmeticError, InputError) as error:
        raise InputError(f"{source} is no UNet of PVDM, or of another build ({error}); check the file") from None
    if ours["first.weight"].shape[1] == config.latent_channels:
        raise InputError(
            f"{source} was trained without the clip before (cond_model: False), so that it cannot go on from one, and "
            "makes no long video; give the UNet of a training with cond_model: True, as the released ones are"
        )
    positions = next((tensor.shape[-1] for name, tensor in theirs.items() if name.endswith("zeros")), grid.positions)
    if positions != grid.positions:
        advice = "give its own autoencoder with it, or before it"
        raise InputError(f"{source} is for latents of {positions} positions, not {grid.positions}; {advice}")
    with torch.device("meta"):
        network = PvdmUnet(config)
    return Part(config=config, tensors=_checked(ours, network, source))


def _checked(ours: dict[str, Tensor], network: nn.Module, source: Path) -> dict[str, Tensor]:
    """Return the tensors if they are those of the network, all of them and no others."""
    wanted = network.state_dict()
    for name in sorted(set(ours) - set(wanted)):
        raise InputError(f"{source} has the tensor {name}, which PVDM does not have; is it another model?")
    for name in sorted(set(wanted) - set(ours)):
        raise InputError(f"{source} lacks the tensor {name}, which PVDM has; is it another model?")
    for name, tensor in ours.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{list(tensor.shape)}, not {list(wanted[name].shape)}"
            raise CheckpointError(f"{source}: {name} has the shape {shapes}; fetch the file again")
    return {name: tensor.contiguous() for name, tensor in ours.items()}


def _write(parts: Mapping[str, Part], output: Path, fps: float | None) -> None:
    """Put the parts in place, each complete or not at all."""
    told: dict[str, float] = {} if fps is None else {"fps": fps}
    for part in parts.values():
        told |= count_flops(part.config)
    with tempfile.TemporaryDirectory(dir=output.absolute().parent, prefix=f".{output.name}.") as scratch:
        draft = Path(scratch) / "model"
        draft.mkdir()
        for part in parts.values():
            save_network(draft, part.config, part.tensors)
        if not output.exists():
            save_index(draft, with_text=False, **{"fps": FPS} | told)
            draft.rename(output)
            return
        save_index(output, with_text=False, **told)
        for name in parts:
            (draft / name).rename(output / name)


def our_autoencoder(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of their autoencoder under our names and in our shapes; unknown names stay as they are."""
    ours = _renamed(tensors, AUTOENCODER)
    for name in [name for name in ours if name.endswith("to_plane.weight")]:
        ours[name] = ours[name].flatten(1)
    patches = ours.get("from_pixels.weight")
    if patches is not None and patches.ndim == 2:
        side = math.isqrt(patches.shape[1] // 3)
        ours["from_pixels.weight"] = patches.reshape(-1, side, side, 3).permute(0, 3, 1, 2).contiguous()
    return ours


def our_unet(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of their UNet under our names and in our shapes; unknown names stay as they are."""
    ours = _renamed(tensors, UNET)
    # They count the first convolution among the steps down.
    ours = {re.sub(r"^down\.(\d+)", lambda found: f"down.{int(found[1]) - 1}", n): t for n, t in ours.items()}
    pointwise = re.compile(r"(attention|positions)\.(qkv|out)\.weight")
    return {name: tensor.flatten(1) if pointwise.search(name) else tensor for name, tensor in ours.items()}


def is_unet(names: Iterable[str]) -> bool:
    """Return whether these are the tensors of a UNet rather than of an autoencoder."""
    return any(re.search(PREFIX + r"input_blocks\.", name) for name in names)


def autoencoder_config(ours: Mapping[str, Tensor]) -> AutoencoderConfig:
    """Return the sizes of an autoencoder from its tensors. Raises KeyError where one is missing that tells them.

    The number of heads of the pools, which is in no tensor, is that of the authors.
    """
    shape = {name: tuple(tensor.shape) for name, tensor in ours.items()}
    frames, rows, columns = (shape[f"pools.{axis}.positions"][1] - 1 for axis in ("time", "height", "width"))
    width, _, patch, _ = shape["from_pixels.weight"]
    return AutoencoderConfig(
        grid=Grid(frames=frames, rows=rows, columns=columns),
        patch=patch,
        width=width,
        depth=_count(shape, r"encoder\.layers\.\d+"),
        heads=shape["encoder.layers.0.time.qkv.weight"][0] // (3 * 64),
        pool_depth=_count(shape, r"pools\.time\.layers\.\d+"),
        pool_hidden=shape["pools.time.layers.0.mlp.expand.weight"][0],
        latent_channels=shape["pools.time.to_plane.weight"][0],
        compat=True,
    )


def unet_config(ours: Mapping[str, Tensor], grid: Grid, heads: int = 8) -> UnetConfig:
    """Return the sizes of a UNet from its tensors. Raises KeyError where one is missing that tells them.

    Neither the grid nor the number of heads is in any tensor.
    """
    shape = {name: tuple(tensor.shape) for name, tensor in ours.items()}
    levels = _count(shape, r"up\.\d+\.enlarge") + 1
    blocks = _count(shape, r"up\.\d+") // levels - 1
    channels = shape["first.weight"][0]
    # The way up begins with the last level.
    steps = [(blocks + 1) * (levels - 1 - level) for level in range(levels)]
    return UnetConfig(
        grid=grid,
        latent_channels=shape["last.weight"][0],
        channels=channels,
        multipliers=tuple(shape[f"up.{step}.block.conv_out.weight"][0] // channels for step in steps),
        blocks=blocks,
        attention=tuple(f"up.{step}.attention.qkv.weight" in shape for step in steps),
        heads=heads,
    )


def _renamed(tensors: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    ours: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        name = re.sub(PREFIX, "", name)
        if CONSTANTS.fullmatch(name):
            continue
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        ours[name] = tensor
    return ours


def _count(names: Iterable[str], pattern: str) -> int:
    """Return how many modules are of this name."""
    return len({found[0] for name in names if (found := re.match(pattern, name))})
