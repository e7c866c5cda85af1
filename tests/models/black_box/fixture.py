"""Tiny models of pipelines that longtake has no adapter for, with random weights, saved as the hub has them."""

import json
import string
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLHunyuanVideo15,
    AutoencoderKLMochi,
    AutoencoderKLWan,
    ClassifierFreeGuidance,
    CogVideoXDDIMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    Cosmos2VideoToWorldPipeline,
    CosmosTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    MochiPipeline,
    MochiTransformer3DModel,
)
from torch import nn
from transformers import (
    ByT5Tokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    LlamaConfig,
    LlamaModel,
    Qwen2_5_VLTextModel,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig


def t5_tokenizer() -> T5TokenizerFast:
    words = ["<pad>", "</s>", "<unk>", "\u2581", *string.ascii_lowercase]
    return T5TokenizerFast(vocab=[(word, -float(rank)) for rank, word in enumerate(words)], extra_ids=0)


def t5(words: int) -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=words, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)).eval()


def tiny_cogvideox15(root: Path, from_picture: bool = False) -> Path:
    """CogVideoX 1.5's layout, of which two latents are one token, 9 frames of 16 x 32 pixels; `from_picture`: as
    5b-I2V has it, where each is."""
    torch.manual_seed(0)
    tokenizer = t5_tokenizer()
    vae = AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2
    )
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=8 if from_picture else 4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=16,
        num_layers=2,
        sample_height=2,
        sample_width=4,
        sample_frames=9,
        max_text_seq_length=226,
        patch_size_t=None if from_picture else 2,
        use_rotary_positional_embeddings=True,
    )
    scheduler = CogVideoXDDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    kind: Any = CogVideoXImageToVideoPipeline if from_picture else CogVideoXPipeline
    folder = root / ("cogvideox-i2v" if from_picture else "cogvideox")
    kind(
        tokenizer=tokenizer, text_encoder=t5(len(tokenizer)), vae=vae, transformer=transformer, scheduler=scheduler
    ).save_pretrained(folder)
    # Its call says 49.
    (folder / "longtake.json").write_text(json.dumps({"num_frames": 9}) if from_picture else "{}")
    return folder


def _clip(root: Path) -> tuple[CLIPTokenizer, CLIPTextModel]:
    letters = list(string.ascii_lowercase)
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (root / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (root / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(root / "vocab.json"), str(root / "merges.txt"), model_max_length=77)
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=8,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
        pad_token_id=len(words) - 1,
    )
    return tokenizer, CLIPTextModel(config).eval()


def tiny_hunyuan(root: Path) -> Path:
    """HunyuanVideo's layout: two text encoders, guidance that the network is told. 5 frames of 16 x 32 pixels."""
    torch.manual_seed(1)
    tokenizer, (tokenizer_2, text_encoder_2) = t5_tokenizer(), _clip(root)
    llama = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        pad_token_id=0,
    )
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
    )
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=16,
        pooled_projection_dim=8,
        rope_axes_dim=(4, 4, 4),
    )
    HunyuanVideoPipeline(
        tokenizer=tokenizer,
        text_encoder=LlamaModel(llama).eval(),
        tokenizer_2=tokenizer_2,
        text_encoder_2=text_encoder_2,
        vae=vae,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
    ).save_pretrained(root / "hunyuan")
    (root / "hunyuan" / "longtake.json").write_text(json.dumps({"num_frames": 5, "size": [16, 32]}))
    return root / "hunyuan"


def tiny_mochi(root: Path) -> Path:
    """Mochi's layout. 7 frames of 16 x 32 pixels."""
    torch.manual_seed(2)
    tokenizer = t5_tokenizer()
    vae = AutoencoderKLMochi(
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        layers_per_block=(1, 1, 1, 1, 1),
    )
    transformer = MochiTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        pooled_projection_dim=16,
        text_embed_dim=16,
        time_embed_dim=4,
    )
    MochiPipeline(
        tokenizer=tokenizer,
        text_encoder=t5(len(tokenizer)),
        vae=vae,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    ).save_pretrained(root / "mochi")
    (root / "mochi" / "longtake.json").write_text(json.dumps({"num_frames": 7, "size": [16, 32]}))
    return root / "mochi"


def tiny_hunyuan15(root: Path) -> Path:
    """HunyuanVideo 1.5's layout, whose guidance is a part of its own. 5 frames of 32 x 64 pixels."""
    torch.manual_seed(3)
    tokenizer, bytes_tokenizer = t5_tokenizer(), ByT5Tokenizer()
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    qwen = Qwen2_5_VLTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        rope_scaling={"rope_type": "default", "mrope_section": [1, 1, 2]},
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
    transformer = HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=2,
        num_refiner_layers=1,
        text_embed_dim=16,
        text_embed_2_dim=16,
        image_embed_dim=8,
        rope_axes_dim=(4, 4, 4),
        task_type="t2v",
    )
    HunyuanVideo15Pipeline(
        tokenizer=tokenizer,
        text_encoder=Qwen2_5_VLTextModel(qwen).eval(),
        tokenizer_2=bytes_tokenizer,
        text_encoder_2=t5(len(bytes_tokenizer)),
        vae=AutoencoderKLHunyuanVideo15(latent_channels=4, block_out_channels=(8,) * 5, layers_per_block=1),
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        guider=ClassifierFreeGuidance(guidance_scale=6.0),
    ).save_pretrained(root / "hunyuan15")
    return root / "hunyuan15"


class Unchecked(nn.Module):
    """In the place of what checks Cosmos's videos for safety, which is a package of its own."""

    device, dtype = torch.device("cpu"), torch.float32

    def check_text_safety(self, prompt: str) -> bool:
        return True

    def check_video_safety(self, video: Any) -> Any:
        return video


def tiny_cosmos() -> Cosmos2VideoToWorldPipeline:
    """A pipeline that goes on from the start of a video."""
    torch.manual_seed(4)
    tokenizer = t5_tokenizer()
    transformer = CosmosTransformer3DModel(
        in_channels=17,
        out_channels=16,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        mlp_ratio=2,
        text_embed_dim=16,
        adaln_lora_dim=4,
        max_size=(4, 32, 32),
    )
    vae = AutoencoderKLWan(
        base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    given: dict[str, Any] = {"vae": vae, "transformer": transformer, "safety_checker": Unchecked()}
    scheduler = FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)
    return Cosmos2VideoToWorldPipeline(
        text_encoder=t5(len(tokenizer)), tokenizer=tokenizer, scheduler=scheduler, **given
    )
