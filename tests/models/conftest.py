"""Tiny text-to-video models with random weights, saved as the hub has them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AnimateDiffSparseControlNetPipeline,
    AutoencoderKL,
    DDIMScheduler,
    LattePipeline,
    LatteTransformer3DModel,
    MotionAdapter,
    SparseControlNetModel,
    TextToVideoSDPipeline,
    UNet3DConditionModel,
    UNetMotionModel,
)
from diffusers.models.embeddings import TimestepEmbedding
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from .wan.wan_fixture import tiny_wan

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


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder; tests that change it copy it."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("models")
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


@pytest.fixture(scope="session")
def zeroscope(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as ZeroScope lies on the hub: it predicts epsilon, and there is no longtake.json."""
    parts = Path(shutil.copytree(folder, tmp_path_factory.mktemp("models") / "zeroscope"))
    (parts / "longtake.json").unlink()
    config = parts / "scheduler" / "scheduler_config.json"
    epsilon = {"prediction_type": "epsilon", "rescale_betas_zero_snr": False}
    config.write_text(json.dumps(json.loads(config.read_text()) | epsilon))
    return parts


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


@pytest.fixture(scope="session")
def latte_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Latte folder; tests that change it copy it."""
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
    folder = tmp_path_factory.mktemp("models") / "latte"
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sparsectrl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of AnimateDiff with SparseCtrl, 5 frames; tests that change it copy it."""
    torch.manual_seed(3)
    root = tmp_path_factory.mktemp("models")
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


@pytest.fixture(scope="session")
def videocrafter2_unet(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The UNet of the tiny model with an embedding of frames per second, as VideoCrafter2's lies on the hub."""
    torch.manual_seed(2)
    unet = Path(shutil.copytree(folder / "unet", tmp_path_factory.mktemp("models") / "unet"))
    tensors = load_file(unet / "diffusion_pytorch_model.safetensors")
    embedding = TimestepEmbedding(16, 64).state_dict()
    tensors |= {f"fps_embedding.{name}": tensor for name, tensor in embedding.items()}
    save_file(tensors, unet / "diffusion_pytorch_model.safetensors")
    return unet


@pytest.fixture(scope="session")
def wan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of Wan; tests that change it copy it."""
    return tiny_wan(tmp_path_factory.mktemp("models"))
