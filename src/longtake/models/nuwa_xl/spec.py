"""What can be known of a NUWA-XL folder before its weights are loaded. Imports no torch.

FOLDER/model_index.json            names the pipeline, NuwaXlPipeline, and its parts
FOLDER/unet                        config.json, with that of the image UNet in it, and safetensors
FOLDER/vae, text_encoder, tokenizer, scheduler
                                   as in the folder of a text-to-video model; may lie in one, see `Extras.shared`
FOLDER/longtake.json               frames per second, guidance, vocabulary (see `Extras`)
"""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from longtake.errors import CheckpointError, InputError
from longtake.model import Continuation, Infill, Strided, VideoSpec
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
from longtake.models.nuwa_xl.config import MtdConfig

UNET = "MaskTemporalUnet"
LAYOUT = Layout(pipeline="NuwaXlPipeline", networks=TEXT_TO_VIDEO.networks | {"unet": UNET}, lender=TEXT_TO_VIDEO)
OVER_TIME = "vae_over_time"
"""Part with what T-KLVAE adds to `vae`."""
DEFAULTS = Extras(guidance=3.0)


def nuwa_xl_spec(folder: Path) -> VideoSpec:
    """Return the spec of the model in a folder.

    Raises InputError for a model of another kind, CheckpointError for parts that are missing or do not fit each other.
    """
    parts, extras = part_folders(folder, LAYOUT), read_extras(folder, DEFAULTS)
    refuse_extras(folder, extras, DEFAULTS, ("num_frames", "clean_frames", "size", "told_fps"))
    config, image = read_unet_config(parts["unet"])
    vae = read_json(parts["vae"] / "config.json")
    try:
        size, channels = int(image["sample_size"]), int(image["in_channels"])
        fits, stride = channels == vae["latent_channels"], 2 ** (len(vae["block_out_channels"]) - 1)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: a config.json lacks what it must say ({error}); fetch it again") from None
    if not fits:
        raise CheckpointError(f"{parts['unet']} is made for other latents than those of {parts['vae']}")
    return VideoSpec(
        name=folder.resolve().name,
        num_frames=config.frames,
        height=size * stride,
        width=size * stride,
        fps=extras.fps,
        latent_shape=(channels, config.frames, size, size),
        guidance=extras.guidance,
        infill_guidance=extras.infill_guidance,
        capabilities=frozenset({Infill, Continuation, Strided}),
        strides=config.strides,
        vocabulary=None if extras.vocabulary is None else frozenset(extras.vocabulary),
        parameters=count_parameters(parts, LAYOUT),
        forward_flops=extras.forward_flops,
        decode_flops=extras.decode_flops,
    )


def read_unet_config(part: Path) -> tuple[MtdConfig, dict[str, Any]]:
    """Return what a UNet adds to its image UNet, and the config of that. Raises CheckpointError for other content."""
    path = part / "config.json"
    content: dict[str, Any] = {name: value for name, value in read_json(path).items() if name != "_class_name"}
    image = content.pop("image", None)
    kinds = {field.name: type(field.default) for field in fields(MtdConfig)}
    known = {name: list if kind is tuple else kind for name, kind in kinds.items()}
    try:
        if {name: type(value) for name, value in content.items()} != known or not isinstance(image, dict):
            raise InputError(f"it should say image and, each of its type, {', '.join(known)}")
        if any(type(stride) is not int for stride in content["strides"]):
            raise InputError(f"strides cannot be {content['strides']!r}")
        content["strides"] = tuple(content["strides"])
        return MtdConfig(**content), image
    except InputError as error:
        raise CheckpointError(f"{path} is no config of a {UNET} ({error}); fetch the model again") from None


def unet_config_json(config: MtdConfig, image: dict[str, Any]) -> dict[str, Any]:
    """Return the content of the UNet's config.json."""
    return {"_class_name": UNET} | asdict(config) | {"image": image}


def index_json() -> dict[str, Any]:
    """Return the content of model_index.json."""
    index: dict[str, Any] = {"_class_name": LAYOUT.pipeline, "unet": ["longtake", UNET]}
    text = {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    return index | text | {"vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", "DDIMScheduler"]}
