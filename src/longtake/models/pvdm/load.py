"""The parts of a PVDM folder, ready to run: local files only, nothing that runs code."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

from longtake.models.hub.files import weight_files
from longtake.models.hub.folder import stem
from longtake.models.hub.load import check_weights, one_line_errors, text_encoder
from longtake.models.pvdm.autoencoder import PvdmAutoencoder
from longtake.models.pvdm.spec import PvdmFolder
from longtake.models.pvdm.unet import PvdmUnet

Network = TypeVar("Network", PvdmAutoencoder, PvdmUnet)


@dataclass(frozen=True, kw_only=True)
class PvdmParts:
    """What a PVDM model consists of, ready to run."""

    autoencoder: PvdmAutoencoder
    unet: PvdmUnet
    text: tuple[CLIPTokenizer, CLIPTextModel] | None
    """What turns prompts into states, where the UNet reads text."""


def load_pvdm_parts(found: PvdmFolder, device: torch.device, dtype: torch.dtype) -> PvdmParts:
    """Load the parts, the text encoder in float32 whatever `dtype`. Raises CheckpointError for damaged files."""
    with torch.device("meta"):
        autoencoder, unet = PvdmAutoencoder(found.autoencoder), PvdmUnet(found.unet)
    text = None
    if found.unet.text_width is not None:
        with one_line_errors(found.parts["tokenizer"]):
            tokenizer = CLIPTokenizer.from_pretrained(found.parts["tokenizer"], local_files_only=True)
        encoder = text_encoder(CLIPTextModel, found.parts["text_encoder"], torch.float32).to(device)
        text = tokenizer, encoder
    return PvdmParts(
        autoencoder=_filled(autoencoder, found.parts["autoencoder"], device, dtype),
        unet=_filled(unet, found.parts["unet"], device, dtype),
        text=text,
    )


def _filled(network: Network, part: Path, device: torch.device, dtype: torch.dtype) -> Network:
    """Give a network without weights those of its folder, to be run and not to be trained."""
    with one_line_errors(part):
        tensors = {}
        for file in weight_files(part, stem(part.name)):
            tensors |= load_file(file)
        network.load_state_dict(tensors, assign=True)
    check_weights(network, part)
    return network.to(device, dtype).eval().requires_grad_(False)
