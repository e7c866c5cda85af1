"""Turns the authors' checkpoints into a folder that `load_model` takes."""

import tempfile
from collections.abc import Mapping, Sequence
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
from longtake.models.pvdm.official import autoencoder_config, is_unet, our_autoencoder, our_unet, unet_config
from longtake.models.pvdm.spec import NETWORKS, PIPELINE, part_name, read_config
from longtake.models.pvdm.unet import PvdmUnet

HEADS = 8
"""Of the released UNets; no tensor says it."""


FPS = 25.0
"""Of UCF-101."""


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
    for a part that is there already.
    """
    if not output.absolute().parent.is_dir():
        raise OutputError(f"cannot write {output}: the folder {output.absolute().parent} does not exist")
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
