"""Tiny models with random weights, saved as the hub has them: a builder for every row of the table of families.

A builder is given a folder to write in, and returns the model's within it.
"""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AnimateDiffPipeline,
    AnimateDiffSparseControlNetPipeline,
    AutoencoderKL,
    DDIMScheduler,
    LattePipeline,
    LatteTransformer3DModel,
    MotionAdapter,
    SparseControlNetModel,
    TextToVideoSDPipeline,
    UNet2DConditionModel,
    UNet3DConditionModel,
    UNetMotionModel,
)
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from longtake.models import MODELS

from .black_box.fixture import tiny_cogvideox15
from .cogvideox.cogvideox_fixture import tiny_cogvideox
from .ltx.ltx_fixture import tiny_ltx, tiny_ltx2
from .svd.svd_fixture import tiny_svd
from .wan.wan_fixture import tiny_5b, tiny_a14b, tiny_from_pictures, tiny_skyreels, tiny_vace, tiny_wan

NUM_FRAMES = 8


def _tokenizer(folder: Path) -> CLIPTokenizer:
    letters = list("abcdefghijklmnopqrstuvwxyz")
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=12)


def _text_encoder(num_words: int) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=num_words,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=12,
        bos_token_id=num_words - 2,
        eos_token_id=num_words - 1,
        pad_token_id=num_words - 1,
    )
    return CLIPTextModel(config)


def _unet() -> UNet3DConditionModel:
    return UNet3DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=16,
        attention_head_dim=4,
    )


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=0.7,
    )


def _scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )


def _wake(network: nn.Module) -> None:
    """Let layers that start as the identity do something, or a mistake in them would not show."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.abs().max() == 0:
                parameter.normal_(std=0.1)


def tiny_modelscope(root: Path) -> Path:
    """ModelScope's layout, with all that a longtake.json can say of clean frames."""
    torch.manual_seed(0)
    tokenizer = _tokenizer(root / "tokenizer")
    unet = _unet()
    _wake(unet)
    pipeline = TextToVideoSDPipeline(
        vae=_vae(),
        text_encoder=_text_encoder(len(tokenizer)),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=_scheduler(),
    )
    pipeline.save_pretrained(root / "tiny")
    extras = {"fps": 8, "guidance": 3.0, "num_frames": NUM_FRAMES, "clean_frames": True}
    (root / "tiny" / "longtake.json").write_text(json.dumps(extras))
    return root / "tiny"


def _latte_transformer() -> LatteTransformer3DModel:
    return LatteTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=16,
        attention_bias=True,
        sample_size=8,
        patch_size=2,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        caption_channels=12,
        video_length=NUM_FRAMES,
    )


def tiny_latte(root: Path) -> Path:
    """Latte, whose transformer has learned a variance, too."""
    torch.manual_seed(1)
    special: list[tuple[str, float]] = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    tokenizer = T5Tokenizer(vocab=[*special, *((letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz")], extra_ids=0)
    encoder = T5EncoderModel(
        T5Config(vocab_size=len(tokenizer), d_model=12, d_kv=6, d_ff=24, num_layers=2, num_heads=2)
    )
    scheduler = DDIMScheduler(beta_schedule="linear", beta_start=0.0001, beta_end=0.02, clip_sample=False)
    pipeline = LattePipeline(
        tokenizer=tokenizer,
        text_encoder=encoder,
        vae=_vae(),
        transformer=_latte_transformer(),
        scheduler=scheduler,
    )
    pipeline.save_pretrained(root / "latte")
    return root / "latte"


def tiny_sparsectrl(root: Path) -> Path:
    """AnimateDiff with SparseCtrl, 5 frames."""
    torch.manual_seed(3)
    tokenizer = _tokenizer(root / "tokenizer")
    shape: dict[str, Any] = {
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": 16,
    }
    down: dict[str, Any] = {
        "down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"),
        "motion_num_attention_heads": 2,
    }
    up: dict[str, Any] = {"up_block_types": ("UpBlockMotion", "CrossAttnUpBlockMotion")}
    unet = UNetMotionModel(sample_size=8, num_attention_heads=2, motion_max_seq_length=6, **shape, **down, **up)
    control = SparseControlNetModel(
        attention_head_dim=2, motion_max_seq_length=6, conditioning_embedding_out_channels=(8,), **shape, **down
    )
    adapter = MotionAdapter(
        block_out_channels=(16, 32), motion_layers_per_block=1, motion_num_attention_heads=2, motion_norm_num_groups=8
    )
    for network in (unet, control):
        _wake(network)
    scheduler: Any = DDIMScheduler(beta_schedule="linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
    pipeline = AnimateDiffSparseControlNetPipeline(
        vae=_vae(),
        text_encoder=_text_encoder(len(tokenizer)),
        tokenizer=tokenizer,
        unet=unet,
        motion_adapter=adapter,
        controlnet=control,
        scheduler=scheduler,
    )
    pipeline.save_pretrained(root / "sparsectrl")
    (root / "sparsectrl" / "longtake.json").write_text(json.dumps({"num_frames": 5, "guidance": 3.0}))
    return root / "sparsectrl"


def image_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=16,
        attention_head_dim=2,
    )


def tiny_animatediff(root: Path, merged: bool) -> Path:
    """AnimateDiff, 8 frames of the 10 that it has positions for; merged: with the adapter in the UNet, as saved."""
    torch.manual_seed(4)
    tokenizer = _tokenizer(root / "tokenizer")
    unet = image_unet()
    adapter = MotionAdapter(
        block_out_channels=(16, 32),
        motion_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=8,
        motion_max_seq_length=10,
    )
    for network in (unet, adapter):
        _wake(network)
    scheduler = DDIMScheduler(beta_schedule="linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
    pipeline = AnimateDiffPipeline(
        vae=_vae(),
        text_encoder=_text_encoder(len(tokenizer)),
        tokenizer=tokenizer,
        unet=unet,
        motion_adapter=adapter,
        scheduler=scheduler,
    )
    folder = root / "animatediff"
    pipeline.save_pretrained(folder)
    (folder / "longtake.json").write_text(json.dumps({"num_frames": NUM_FRAMES, "guidance": 3.0}))
    if not merged:
        shutil.rmtree(folder / "unet")
        unet.save_pretrained(folder / "unet")
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(json.dumps(index | {"unet": ["diffusers", "UNet2DConditionModel"]}))
    return folder


TINY: dict[str, Callable[[Path], Path]] = {
    "TextToVideoSDPipeline": tiny_modelscope,
    "LattePipeline": tiny_latte,
    "WanTransformer3DModel": tiny_wan,
    "WanVACETransformer3DModel": tiny_vace,
    "SkyReelsV2Transformer3DModel": tiny_skyreels,
    "LTXVideoTransformer3DModel": tiny_ltx,
    "LTX2VideoTransformer3DModel": tiny_ltx2,
    "CogVideoXPipeline": tiny_cogvideox,
    "AnimateDiffSparseControlNetPipeline": tiny_sparsectrl,
    "UNetSpatioTemporalConditionModel": tiny_svd,
    "UNetMotionModel": partial(tiny_animatediff, merged=True),
    "UNet2DConditionModel": partial(tiny_animatediff, merged=False),
    # One as small as can be is part of the package.
    "PvdmPipeline": lambda root: _embedded("pvdm-sprites"),
    "NuwaXlPipeline": lambda root: _embedded("nuwa-sprites"),
}
"""By the same names as the families."""

OTHERS: dict[str, Callable[[Path], Path]] = {
    "wan a14b": tiny_a14b,
    "wan 5b": tiny_5b,
    **{f"wan {name}": partial(tiny_from_pictures, name=name) for name in ("i2v", "flf2v", "i2v-a14b")},
    "ltx later": partial(tiny_ltx, later=True),
    "ltx 2.3": partial(tiny_ltx2, third=True),
    "cogvideox 5b": partial(tiny_cogvideox, rotary=True),
    "cogvideox 1.5": tiny_cogvideox15,
}
"""Other models of these families."""


def _embedded(name: str) -> Path:
    folder = MODELS[name].folder
    assert folder is not None
    return folder
