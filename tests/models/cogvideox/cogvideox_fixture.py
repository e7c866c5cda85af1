"""Tiny models of CogVideoX with random weights, saved as the hub has them."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from torch import Tensor

from ..black_box.fixture import t5, t5_tokenizer

FRAMES, HEIGHT, WIDTH, CHANNELS = 5, 4, 6, 4


def tiny_vae(**settings: Any) -> AutoencoderKLCogVideoX:
    torch.manual_seed(1)
    narrow: dict[str, Any] = {
        "block_out_channels": (8, 8, 16, 16),
        "latent_channels": CHANNELS,
        "layers_per_block": 1,
        "norm_num_groups": 4,
    }
    return AutoencoderKLCogVideoX(**narrow | settings).eval()


def tiny_transformer(rotary: bool, **settings: Any) -> CogVideoXTransformer3DModel:
    torch.manual_seed(2)
    narrow: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": CHANNELS,
        "out_channels": CHANNELS,
        "time_embed_dim": 16,
        "text_embed_dim": 16,
        "num_layers": 2,
        "sample_height": HEIGHT,
        "sample_width": WIDTH,
        "sample_frames": 4 * FRAMES - 3,
        "use_rotary_positional_embeddings": rotary,
    }
    return CogVideoXTransformer3DModel(**narrow | settings).eval()


def tiny_cogvideox(root: Path, rotary: bool = False) -> Path:
    """2b's layout, 17 frames of 32 x 48 pixels; `rotary`: 5b's, with its other scheduler."""
    torch.manual_seed(0)
    tokenizer = t5_tokenizer()
    scheduler = CogVideoXDDIMScheduler(
        clip_sample=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=1.0 if rotary else 3.0,
        timestep_spacing="trailing",
    )
    folder = root / ("cogvideox-5b" if rotary else "cogvideox-2b")
    CogVideoXPipeline(
        tokenizer=tokenizer,
        text_encoder=t5(len(tokenizer)),
        vae=tiny_vae(scaling_factor=0.7 if rotary else 1.15258426),
        transformer=tiny_transformer(rotary),
        scheduler=scheduler,
    ).save_pretrained(folder)
    return folder


def latents(windows: int, frames: int = FRAMES, seed: int = 0) -> Tensor:
    shape = (windows, CHANNELS, frames, HEIGHT, WIDTH)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rows_of(values: list[int], frames: int = FRAMES) -> Tensor:
    return torch.tensor(values)[:, None].expand(-1, frames)
