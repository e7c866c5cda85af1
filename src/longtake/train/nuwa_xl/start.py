"""The model that NUWA-XL's training starts from, as files. Imports no torch.

A folder in the hub layout: of an image model (Stable Diffusion 1 or 2), of a text-to-video model of the ModelScope
family, whose layers over time are left out, or of a NUWA-XL model, which is trained further.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from longtake.errors import CheckpointError, InputError, unknown_name
from longtake.models import FAMILIES, MODELS, TEXT_TO_VIDEO
from longtake.models.hub.configs import part_folders, read_extras
from longtake.models.hub.files import read_json
from longtake.models.nuwa_xl.spec import OVER_TIME, PIPELINE, MtdConfig, read_unet_config
from longtake.words import an

VIDEO = FAMILIES["TextToVideoSDPipeline"]
STABLE_DIFFUSION = replace(
    VIDEO, pipeline="StableDiffusionPipeline", networks=TEXT_TO_VIDEO | {"unet": "UNet2DConditionModel"}
)
STARTS = {family.pipeline: family for family in (STABLE_DIFFUSION, VIDEO, FAMILIES[PIPELINE])}


@dataclass(frozen=True, kw_only=True)
class Start:
    """A model to start from."""

    pipeline: str
    """Class of its pipeline, one of `STARTS`."""
    folder: Path
    parts: dict[str, Path]
    """Where each part lies."""
    size: int
    """Side of its frames in pixels."""
    cell: int
    """Pixels to a side of one cell of the coarsest features."""
    reduction: int
    """Pixels to a side of one cell of the latents."""
    config: MtdConfig | None
    """Of a NUWA-XL model."""


def read_start(name: str) -> Start:
    """Return the model with a name, or in a folder.

    Raises InputError for an unknown name and for a model that training cannot start from, CheckpointError for missing
    or broken files.
    """
    folder = MODELS[name].folder if name in MODELS else Path(name).expanduser()
    if folder is None or not folder.is_dir():
        raise unknown_name("model to start from", name, [known for known, row in MODELS.items() if row.folder])
    pipeline = read_json(folder / "model_index.json").get("_class_name")
    if pipeline not in STARTS:
        raise InputError(f"{folder} is {an(pipeline)}; training can start from {', '.join(map(an, STARTS))}")
    parts = part_folders(folder, STARTS[pipeline])
    prediction = read_json(parts["scheduler"] / "scheduler_config.json").get("prediction_type", "epsilon")
    if prediction not in ("v_prediction", "epsilon"):
        raise InputError(f"{folder} predicts {prediction!r}, which cannot be trained; use v_prediction or epsilon")
    if OVER_TIME in parts:
        raise InputError(
            f"{parts[OVER_TIME]}: frames are encoded one by one for training, without T-KLVAE; to go on without it, "
            "remove that folder, and its name from model_index.json, in a copy of the model"
        )
    config, unet = _unet_config(pipeline, parts["unet"])
    vae = read_json(parts["vae"] / "config.json")
    try:
        reduction, size = 2 ** (len(vae["block_out_channels"]) - 1), unet["sample_size"]
        fits = unet["in_channels"] == unet["out_channels"] == vae["latent_channels"]
        cell = reduction * 2 ** (len(unet["block_out_channels"]) - 1)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: a config.json lacks what it must say ({error}); fetch it again") from None
    if not fits or type(size) is not int:
        raise InputError(f"{parts['unet']} is not made for square latents of {parts['vae']}; use another model")
    return Start(
        pipeline=pipeline,
        folder=folder,
        parts=parts,
        size=size * reduction,
        cell=cell,
        reduction=reduction,
        config=config,
    )


def chosen_size(start: Start, wanted: int | None) -> int:
    """Return the side of the frames. Raises InputError for one that the model's features do not divide."""
    if wanted is None:
        return start.size
    if wanted < start.cell or wanted % start.cell:
        raise InputError(f"frames of {wanted} pixels do not fit the model; use a --size that {start.cell} divides")
    return wanted


def chosen_network(start: Start, frames: int | None, levels: int, *, finest_only: bool, upward_only: bool) -> MtdConfig:
    """Return what is trained. Raises InputError for sizes that differ from those of a NUWA-XL model to start from."""
    if levels < 1:
        raise InputError(f"a tree of {levels} levels makes nothing; use 1 or more")
    if start.config is not None:
        taken = frames not in (None, start.config.frames)
        if taken or finest_only or upward_only:
            raise InputError(f"frames and parts are those of {start.folder}; leave --frames, --finest-only etc. out")
    length = (start.config.frames if start.config else 16) if frames is None else frames
    strides = tuple((length - 1) ** level for level in reversed(range(levels)))
    if start.config is None:
        return MtdConfig(frames=length, strides=strides, multi_scale=not finest_only, symmetric=not upward_only)
    kept = start.config
    return MtdConfig(
        frames=kept.frames,
        strides=strides,
        multi_scale=kept.multi_scale,
        symmetric=kept.symmetric,
        condition_channels=kept.condition_channels,
    )


def closed_vocabulary(start: Start) -> bool:
    """Return whether the model says which words it knows."""
    return read_extras(start.folder).get("vocabulary") is not None


def _unet_config(pipeline: str, part: Path) -> tuple[MtdConfig | None, dict[str, Any]]:
    if pipeline == PIPELINE:
        return read_unet_config(part)
    return None, read_json(part / "config.json")
