"""Tiny models of LTX-Video with random weights, saved as the hub has them."""

import json
import string
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXConditionPipeline,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)
from transformers import T5Config, T5EncoderModel, T5TokenizerFast

FRAMES, HEIGHT, WIDTH, CHANNELS = 5, 2, 3, 8
SHIFTED = {
    "base_image_seq_len": 1024,
    "base_shift": 0.95,
    "max_image_seq_len": 4096,
    "max_shift": 2.05,
    "shift_terminal": 0.1,
    "use_dynamic_shifting": True,
}
"""The scheduler of 0.9.0 to 0.9.1, as released."""
FIRST = {"decoder_block_out_channels": (4, 8, 8, 8), "decoder_layers_per_block": (2, 1, 2, 1, 1)}
"""The layout of the decoder of 0.9.0."""
LATER = {
    "decoder_block_out_channels": (8, 16, 32),
    "decoder_layers_per_block": (1, 2, 1, 2),
    "decoder_spatio_temporal_scaling": (True, True, True),
    "decoder_inject_noise": (True, True, True, False),
    "upsample_residual": (True, True, True),
    "upsample_factor": (2, 2, 2),
    "timestep_conditioning": True,
}
"""The layout of the decoder of 0.9.1 and later."""


def tiny_vae(**settings: Any) -> AutoencoderKLLTXVideo:
    torch.manual_seed(1)
    narrow = {
        "latent_channels": CHANNELS,
        "block_out_channels": (4, 8, 8, 8),
        "layers_per_block": (1, 1, 1, 1, 1),
        "spatio_temporal_scaling": (True, True, True, False),
    }
    vae = AutoencoderKLLTXVideo(**narrow | settings).eval()
    with torch.no_grad():
        for name, parameter in vae.named_parameters():
            if "per_channel_scale" in name:
                parameter.normal_(std=0.2)
        vae.latents_mean.normal_(std=0.2)
        vae.latents_std.uniform_(0.5, 1.5)
    return vae


def tiny_ltx(parent: Path, later: bool = False) -> Path:
    """Save a model in a new folder: 64 x 96 pixels large, 5 latent frames long; `later` as 0.9.5 and on."""
    torch.manual_seed(0)
    root = parent / ("tiny-ltx-later" if later else "tiny-ltx")
    words = ["<pad>", "</s>", "<unk>", "\u2581", *string.ascii_lowercase]
    tokenizer = T5TokenizerFast(vocab=[(word, -float(rank)) for rank, word in enumerate(words)], extra_ids=0)
    text = T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    transformer = LTXVideoTransformer3DModel(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=2,
        caption_channels=16,
    )
    kind = LTXConditionPipeline if later else LTXPipeline
    kind(
        tokenizer=tokenizer,
        text_encoder=T5EncoderModel(text).eval(),
        vae=tiny_vae(**LATER if later else FIRST),
        scheduler=FlowMatchEulerDiscreteScheduler(**{} if later else SHIFTED),
        transformer=transformer,
    ).save_pretrained(root)
    extras = {"num_frames": FRAMES, "size": [32 * HEIGHT, 32 * WIDTH], "guidance": 2.0}
    (root / "longtake.json").write_text(json.dumps(extras))
    return root
