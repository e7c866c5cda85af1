"""What can be known of a PVDM folder before its weights are loaded. Imports no torch.

FOLDER/model_index.json            names the pipeline, PvdmPipeline, and its parts
FOLDER/autoencoder, FOLDER/unet    config.json and diffusion_pytorch_model.safetensors
FOLDER/text_encoder, tokenizer     CLIP's, where the UNet reads text
FOLDER/longtake.json               frames per second, guidance, vocabulary (see `Extras`)
"""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from longtake.errors import CheckpointError, InputError
from longtake.model import Continuation, VideoSpec
from longtake.models.hub.files import read_json
from longtake.models.hub.folder import (
    TEXT_TO_VIDEO,
    Extras,
    Layout,
    count_parameters,
    part_folders,
    read_extras,
    refuse_extras,
)
from longtake.models.pvdm.config import AutoencoderConfig, Grid, UnetConfig

PIPELINE = "PvdmPipeline"
NETWORKS = {"autoencoder": "PvdmAutoencoder", "unet": "PvdmUnet"}
DEFAULTS = Extras(guidance=1.0)
PLAIN = Layout(pipeline=PIPELINE, networks=NETWORKS, others=())
WITH_TEXT = Layout(
    pipeline=PIPELINE,
    networks=NETWORKS | {"text_encoder": "CLIPTextModel"},
    others=("tokenizer",),
    lender=TEXT_TO_VIDEO,
)

Config = TypeVar("Config", AutoencoderConfig, UnetConfig)


@dataclass(frozen=True, kw_only=True)
class PvdmFolder:
    """A folder that has been looked through."""

    parts: dict[str, Path]
    """Where each part lies."""
    autoencoder: AutoencoderConfig
    """Of the part of this name."""
    unet: UnetConfig
    """Of the part of this name."""


def read_folder(folder: Path) -> PvdmFolder:
    """Return what lies in a folder.

    Raises InputError for a model of another kind, CheckpointError for parts that are missing or do not fit each other.
    """
    has_text = "text_encoder" in read_json(folder / "model_index.json")
    parts = part_folders(folder, WITH_TEXT if has_text else PLAIN)
    autoencoder = read_config(AutoencoderConfig, parts["autoencoder"])
    unet = read_config(UnetConfig, parts["unet"])
    if (unet.grid, unet.latent_channels) != (autoencoder.grid, autoencoder.latent_channels):
        raise CheckpointError(f"{parts['unet']} is made for other latents than those of {parts['autoencoder']}")
    if has_text != (unet.text_width is not None):
        raise CheckpointError(f"{folder}: a UNet that reads text and a text_encoder go together; fetch the model again")
    return PvdmFolder(parts=parts, autoencoder=autoencoder, unet=unet)


def pvdm_spec(folder: Path) -> VideoSpec:
    """Return the spec of the model in a folder; see `read_folder` for errors."""
    found = read_folder(folder)
    extras, reads_text = read_extras(folder, DEFAULTS), found.unet.text_width is not None
    unused = ("num_frames", "clean_frames", "size", "told_fps", "infill_guidance")
    refuse_extras(folder, extras, DEFAULTS, unused if reads_text else (*unused, "vocabulary"))
    words = extras.vocabulary if reads_text else []
    grid, patch = found.autoencoder.grid, found.autoencoder.patch
    return VideoSpec(
        name=folder.resolve().name,
        num_frames=grid.frames,
        height=grid.rows * patch,
        width=grid.columns * patch,
        fps=extras.fps,
        latent_shape=(found.unet.latent_channels, grid.positions),
        guidance=extras.guidance,
        capabilities=frozenset({Continuation}),
        bounded=True,
        vocabulary=None if words is None else frozenset(words),
        parameters=count_parameters(found.parts, WITH_TEXT if reads_text else PLAIN),
        forward_flops=extras.forward_flops,
        decode_flops=extras.decode_flops,
    )


def read_config(kind: type[Config], part: Path) -> Config:
    """Return the config of a network from its folder. Raises CheckpointError for one that cannot be."""
    path = part / "config.json"
    content = {name: value for name, value in read_json(path).items() if name != "_class_name"}
    try:
        content["grid"] = _checked(Grid, content["grid"])
        return _checked(kind, content)
    except (TypeError, KeyError, InputError) as error:
        reason = f"{path} is no config of {NETWORKS[part.name]} ({error}); fetch the model again"
        raise CheckpointError(reason) from None


def part_name(config: AutoencoderConfig | UnetConfig) -> str:
    """Return the name of a network's folder."""
    return "autoencoder" if isinstance(config, AutoencoderConfig) else "unet"


def config_json(config: AutoencoderConfig | UnetConfig) -> dict[str, Any]:
    """Return what config.json says of a network."""
    return {"_class_name": NETWORKS[part_name(config)]} | asdict(config)


def index_json(with_text: bool) -> dict[str, Any]:
    """Return the content of model_index.json."""
    index: dict[str, Any] = {"_class_name": PIPELINE}
    index |= {part: ["longtake", kind] for part, kind in NETWORKS.items()}
    text = {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    return index | (text if with_text else {})


def _checked(kind: Any, content: Any) -> Any:
    """Return a dataclass with these values. Raises TypeError for missing, unknown and misfitting ones."""
    names = [field.name for field in fields(kind)]
    if sorted(content) != sorted(names):
        raise TypeError(f"its fields should be {', '.join(names)}")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
    for name, value in values.items():
        default = getattr(kind, name)
        fits = type(value) is type(default) or (name == "text_width" and type(value) is int)
        if isinstance(value, tuple) and fits:
            fits = all(type(item) is type(default[0]) for item in value)
        if not fits or (name == "prediction" and value not in ("epsilon", "v_prediction")):
            raise TypeError(f"{name} cannot be {value!r}")
    return kind(**values)
