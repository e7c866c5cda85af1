"""A tiny Stable Diffusion, and its plain call: the rows that the family of docs/extending.md has in the tests."""

from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from longtake.models import load_model

from ..tiny import image_unet, tiny_modelscope


def pictures_pipeline(clips: Path) -> Any:
    """Return a pipeline with the parts of a tiny ModelScope, but for the network."""
    torch.manual_seed(7)
    unet = image_unet()
    shared = load_model(str(clips)).pipeline.components | {"unet": unet.eval()}
    return StableDiffusionPipeline(**shared, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def tiny_pictures(root: Path) -> Path:
    """Save one; see `tiny.TINY`."""
    pictures_pipeline(tiny_modelscope(root)).save_pretrained(root / "pictures")
    return root / "pictures"


def plain_call(pipeline: Any, x: Tensor, timestep: Tensor, prompt: str) -> Tensor:
    """Return what the network says of windows, picture by picture; see `stock.STOCK`."""
    text, _ = pipeline.encode_prompt(prompt, "cpu", 1, do_classifier_free_guidance=False)
    said = [pipeline.unet(pictures, timestep, text).sample for pictures in x.unbind(2)]
    return torch.stack(said, dim=2)
