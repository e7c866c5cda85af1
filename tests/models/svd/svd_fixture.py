"""A tiny Stable Video Diffusion with random weights, saved as the hub has it."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

FRAMES, HEIGHT, WIDTH = 5, 16, 24


def tiny_svd(parent: Path) -> Path:
    """Save the model in a new folder; it is 48 x 32 pixels large and makes 5 frames from a picture."""
    torch.manual_seed(0)
    unet: Any = UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        num_frames=FRAMES,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=32,
        num_attention_heads=2,
        projection_class_embeddings_input_dim=96,
        addition_time_embed_dim=32,
    )
    halvings: Any = {"down_block_types": ("DownEncoderBlock2D",) * 2, "block_out_channels": (32, 64)}
    vae = AutoencoderKLTemporalDecoder(latent_channels=4, **halvings)
    clip = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=224,
        patch_size=56,
        projection_dim=32,
    )
    # That of the released folders.
    scheduler = EulerDiscreteScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        interpolation_type="linear",
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )
    pictures: Any = CLIPImageProcessorPil(crop_size=224, size=224)
    root = parent / "tiny-svd"
    StableVideoDiffusionPipeline(
        unet=unet.eval(),
        vae=vae.eval(),
        image_encoder=CLIPVisionModelWithProjection(clip).eval(),
        scheduler=scheduler,
        feature_extractor=pictures,
    ).save_pretrained(root)
    index = root / "model_index.json"
    # As the released folders call it, which were saved where another backend is.
    index.write_text(index.read_text().replace("CLIPImageProcessorPil", "CLIPImageProcessor"))
    (root / "longtake.json").write_text(json.dumps({"size": [2 * HEIGHT, 2 * WIDTH]}))
    return root
