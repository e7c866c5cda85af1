"""Tiny models of LTX-Video with random weights, saved as the hub has them."""

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import (
    AutoencoderKLLTX2Video,
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTX2Pipeline,
    LTX2VideoTransformer3DModel,
    LTXConditionPipeline,
    LTXPipeline,
    LTXVideoTransformer3DModel,
)
from diffusers.pipelines.ltx2 import LTX2TextConnectors
from torch import Tensor
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma4UnifiedConfig,
    Gemma4UnifiedForConditionalGeneration,
    GemmaTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

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


SECOND = {
    "block_out_channels": (8, 8, 8, 8),
    "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_block_out_channels": (8, 16, 32),
    "decoder_layers_per_block": (1, 2, 1, 2),
    "decoder_causal": False,
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
"""The layout of the decoder of LTX-2.0."""
THIRD = SECOND | {
    "block_out_channels": (8, 8, 8, 8),
    "decoder_block_out_channels": (8, 16, 16, 32),
    "decoder_layers_per_block": (1, 1, 1, 1, 2),
    "decoder_spatio_temporal_scaling": True,
    "decoder_inject_noise": False,
    "upsample_type": ("spatiotemporal", "spatiotemporal", "temporal", "spatial"),
    "upsample_factor": (2, 2, 1, 2),
    "upsample_residual": False,
    "decoder_spatial_padding_mode": "zeros",
}
"""The layout of that of LTX-2.3: some blocks make frames larger in time or in space alone."""


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


def tiny_vae_2(**settings: Any) -> AutoencoderKLLTX2Video:
    torch.manual_seed(1)
    vae = AutoencoderKLLTX2Video(latent_channels=CHANNELS, **settings).eval()
    with torch.no_grad():
        vae.latents_mean.normal_(std=0.2)
        vae.latents_std.uniform_(0.5, 1.5)
    return vae


def tiny_gemma(words: int, fourth: bool) -> Any:
    """Return Gemma 3, or 4."""
    layers = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": words, "num_key_value_heads": 1, "head_dim": 8} | layers
    if fourth:
        seen = {"mm_embed_dim": 16, "mm_posemb_size": 4, "output_proj_dims": 16}
        config = Gemma4UnifiedConfig(text_config=text, vision_config=seen, audio_config={"audio_embed_dim": 8})
        return Gemma4UnifiedForConditionalGeneration(config)
    seen = layers | {"image_size": 28, "patch_size": 14}
    return Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=seen))


def tiny_ltx2(parent: Path, third: bool = False, fifth: bool = False) -> Path:
    """Save LTX-2 without its sound, 64 x 96 pixels large, 5 latent frames long; `third` as 2.3, whose layers have gates
    and whose texts read otherwise at every level; both as 2.5, whose texts read alike and come of Gemma 4."""
    torch.manual_seed(0)
    root = parent / ("tiny-ltx25" if fifth else "tiny-ltx23" if third else "tiny-ltx2")
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "\u2581", *string.ascii_lowercase]
    tokenizer = GemmaTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=[])
    sizes = {"num_attention_heads": 2, "num_layers": 2, "attention_head_dim": 8}
    heads: dict[str, Any] = {f"{half}_connector_{n}": size for half in ("video", "audio") for n, size in sizes.items()}
    new: dict[str, Any] = {}
    if third:
        heads["video_connector_attention_head_dim"] = 16
        new = {"gated_attn": True, "cross_attn_mod": True, "audio_gated_attn": True, "audio_cross_attn_mod": True}
        new |= {"perturbed_attn": True, "use_prompt_embeddings": False}
    if fifth:
        new |= {"use_prompt_adaln_single": False, "use_keyframes_abs_pos_embedding": True}
    connectors = LTX2TextConnectors(
        caption_channels=16,
        text_proj_in_factor=3,
        rope_type="split" if third else "interleaved",
        per_modality_projections=third,
        video_hidden_dim=32,
        audio_hidden_dim=16,
        video_gated_attn=third,
        audio_gated_attn=third,
        **heads,
    )
    transformer = LTX2VideoTransformer3DModel(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        audio_in_channels=6,
        audio_out_channels=6,
        audio_num_attention_heads=4,
        audio_attention_head_dim=4,
        audio_cross_attention_dim=16,
        num_layers=2,
        caption_channels=16,
        rope_type="split" if third else "interleaved",
        **new,
    )
    if fifth:
        # What texts change would be less than in the others by chance.
        for block in cast(Any, transformer.transformer_blocks):
            block.attn2.to_out[0].weight.data *= 4
    parts: Any = {"audio_vae": None, "vocoder": None}
    LTX2Pipeline(
        tokenizer=tokenizer,
        text_encoder=tiny_gemma(len(tokenizer), fifth).eval(),
        connectors=connectors.eval(),
        vae=tiny_vae_2(**THIRD if third else SECOND),
        scheduler=FlowMatchEulerDiscreteScheduler(**SHIFTED),
        transformer=transformer.eval(),
        **parts,
    ).save_pretrained(root)
    extras = {"num_frames": FRAMES, "size": [32 * HEIGHT, 32 * WIDTH], "guidance": 2.0}
    (root / "longtake.json").write_text(json.dumps(extras))
    return root


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


def latents(windows: int, frames: int = FRAMES, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((windows, CHANNELS, frames, HEIGHT, WIDTH), generator=generator)


def rows_of(texts: Sequence[int], frames: int = FRAMES) -> Tensor:
    return torch.tensor(texts)[:, None].expand(-1, frames)
