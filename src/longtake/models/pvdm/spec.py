"""What can be known of a PVDM folder before its weights are loaded. Imports no torch.

FOLDER/model_index.json            names the pipeline, PvdmPipeline, and its parts
FOLDER/autoencoder, FOLDER/unet    config.json and diffusion_pytorch_model.safetensors
FOLDER/text_encoder, tokenizer     CLIP's, where the UNet reads text
FOLDER/longtake.json               frames per second, guidance, vocabulary (see `Extras`)
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from longtake.errors import CheckpointError
from longtake.model import Continuation, VideoSpec
from longtake.models.hub.configs import Configs, place_of
from longtake.models.hub.family import Offer
from longtake.models.hub.files import read_json
from longtake.models.pvdm.config import AutoencoderConfig, UnetConfig
from longtake.typed import read_typed

PIPELINE = "PvdmPipeline"
NETWORKS = {"autoencoder": "PvdmAutoencoder", "unet": "PvdmUnet"}

NUM_TRAIN = 1000
"""Noise levels of training."""

Config = TypeVar("Config", AutoencoderConfig, UnetConfig)


OFFERS = (
    Offer(
        models="PVDM, `pvdm-sprites` (embedded)",
        page="methods/pvdm.md",
        capabilities=frozenset({Continuation}),
        without=("context-windows",),
        trained="clip after clip, one prompt a clip",
        extrapolated="prompts that change in a clip",
    ),
)
"""Rows of the table of what runs on what."""


def spec(configs: Configs) -> VideoSpec:
    """Return the spec of a model. Raises CheckpointError for broken configs and parts that do not fit each other."""
    places = {name: place_of(configs.parts[name]) for name in NETWORKS}
    autoencoder, unet = read_config(AutoencoderConfig, places["autoencoder"]), read_config(UnetConfig, places["unet"])
    if (unet.grid, unet.latent_channels) != (autoencoder.grid, autoencoder.latent_channels):
        raise CheckpointError(f"{places['unet']} is made for other latents than those of {places['autoencoder']}")
    reads_text = unet.text_width is not None
    if reads_text != ("text_encoder" in configs.parts) or reads_text != ("tokenizer" in configs.parts):
        raise CheckpointError(
            f"{places['unet']}/config.json: text_width of a UNet that reads text, a text_encoder and a tokenizer go "
            "together; fetch the model again"
        )
    extras = configs.told(("vocabulary",) if reads_text else (), guidance=1.0)
    words = extras.vocabulary if reads_text else []
    grid, patch = autoencoder.grid, autoencoder.patch
    return VideoSpec(
        name=configs.name,
        num_frames=grid.frames,
        height=grid.rows * patch,
        width=grid.columns * patch,
        fps=extras.fps,
        latent_shape=(unet.latent_channels, grid.positions),
        guidance=extras.guidance,
        capabilities=frozenset({Continuation}),
        num_levels=NUM_TRAIN,
        bounded=True,
        vocabulary=None if words is None else frozenset(words),
        parameters=configs.parameters,
        forward_flops=extras.forward_flops,
        decode_flops=extras.decode_flops,
    )


def read_config(kind: type[Config], place: Path) -> Config:
    """Return the config of a network from its folder. Raises CheckpointError for one that cannot be."""
    path = place / "config.json"
    content = {name: value for name, value in read_json(path).items() if name != "_class_name"}
    return read_typed(kind, content, str(path), error=CheckpointError, complete=True)


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
