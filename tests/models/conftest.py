"""A tiny text-to-video model with random weights, saved as the hub has it."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, TextToVideoSDPipeline, UNet3DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

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


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder; tests that change it copy it."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("models")
    tokenizer = _tokenizer(root / "tokenizer")
    unet = _unet()
    with torch.no_grad():
        # Layers that start as the identity must do something, or a mistake in them would not show.
        for parameter in unet.parameters():
            if parameter.abs().max() == 0:
                parameter.normal_(std=0.1)
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
