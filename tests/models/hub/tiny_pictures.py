"""A tiny Stable Diffusion, and its plain call: the rows that the family of docs/extending.md has in the tests."""

from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor

from longtake.models import load_model

from ..tiny import tiny_modelscope


def pictures_pipeline(clips: Path) -> Any:
    """Return a pipeline with the parts of a tiny ModelScope, but for the network."""
    torch.manual_seed(7)
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=16,
        attention_head_dim=2,
    )
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
