"""The parts of a NUWA-XL folder, ready to run: local files only, nothing that runs code."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet3DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

from longtake.errors import CheckpointError
from longtake.models.hub.files import read_json, weight_files
from longtake.models.hub.folder import part_folders, stem
from longtake.models.hub.load import (
    check_weights,
    image_decoder,
    library_part,
    noise_levels,
    one_line_errors,
    text_encoder,
)
from longtake.models.nuwa_xl.config import MtdConfig
from longtake.models.nuwa_xl.image_unet import images_of
from longtake.models.nuwa_xl.mtd import MaskTemporalUnet
from longtake.models.nuwa_xl.spec import LAYOUT, OVER_TIME, read_unet_config
from longtake.models.nuwa_xl.t_klvae import TemporalAutoencoder
from longtake.schedule import Prediction, Table


@dataclass(frozen=True, kw_only=True)
class NuwaXlParts:
    """What a NUWA-XL model consists of, ready to run."""

    unet: MaskTemporalUnet
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    alphas_cumprod: Table
    """Of the training schedule, cleanest first, float64."""
    prediction: Prediction


def load_nuwa_xl_parts(folder: Path, device: torch.device, dtype: torch.dtype) -> NuwaXlParts:
    """Load a model folder, the text encoder in float32 whatever `dtype`. Raises CheckpointError for damaged files."""
    places = part_folders(folder, LAYOUT)
    alphas_cumprod, prediction = noise_levels(places["scheduler"])
    with one_line_errors(places["tokenizer"]):
        tokenizer = CLIPTokenizer.from_pretrained(places["tokenizer"], local_files_only=True)
    return NuwaXlParts(
        unet=load_unet(places["unet"]).to(device, dtype).requires_grad_(False),
        vae=image_decoder(places["vae"], device, dtype),
        text_encoder=text_encoder(CLIPTextModel, places["text_encoder"], torch.float32).to(device),
        tokenizer=tokenizer,
        alphas_cumprod=alphas_cumprod,
        prediction=prediction,
    )


def load_unet(place: Path) -> MaskTemporalUnet:
    """Load a UNet as `save_unet` wrote it, float32. Raises CheckpointError for missing or damaged files."""
    config, image = read_unet_config(place)
    library: Any = UNet2DConditionModel
    with one_line_errors(place):
        unet = MaskTemporalUnet(library.from_config(image), config)
        tensors = {}
        for file in weight_files(place, stem(place.name)):
            tensors |= load_file(file)
        unet.load_state_dict(tensors)
    check_weights(unet, place)
    return unet.float().eval()


def load_temporal_autoencoder(folder: Path) -> TemporalAutoencoder:
    """Load T-KLVAE as `save_temporal_autoencoder` wrote it, float32. Raises CheckpointError for damaged files."""
    place = folder / OVER_TIME
    frames = read_json(place / "config.json").get("frames")
    if type(frames) is not int or frames < 1:
        raise CheckpointError(f"{place / 'config.json'}: frames cannot be {frames!r}; fetch the model again")
    network = TemporalAutoencoder(library_part(AutoencoderKL, folder / "vae", "vae", torch.float32), frames)
    image = {f"image.{name}": value for name, value in network.image.state_dict().items()}
    with one_line_errors(place):
        network.load_state_dict(image | load_file(place / f"{stem(OVER_TIME)}.safetensors"))
    check_weights(network, place)
    return network.eval().requires_grad_(False)


def from_video_unet(place: Path, config: MtdConfig) -> MaskTemporalUnet:
    """Return a new network over the images of a video UNet in a folder (UNet3DConditionModel)."""
    return MaskTemporalUnet(images_of(library_part(UNet3DConditionModel, place, "unet", torch.float32)), config)


def from_image_unet(place: Path, config: MtdConfig) -> MaskTemporalUnet:
    """Return a new network over an image UNet in a folder (UNet2DConditionModel)."""
    image = library_part(UNet2DConditionModel, place, "unet", torch.float32)
    return MaskTemporalUnet(image.requires_grad_(True), config)
