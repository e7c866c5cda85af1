"""A tiny model of the Wan family with random weights, saved as the hub has it."""

import json
import string
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    T5TokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

FRAMES, HEIGHT, WIDTH, CHANNELS = 5, 4, 6, 4
TOKENS = HEIGHT * WIDTH // 4
MEAN, STD = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in ([0.1, -0.2, 0.3, 0.0], [1.5, 0.7, 2.0, 1.1]))


def _tokenizer() -> T5TokenizerFast:
    words = ["<pad>", "</s>", "<unk>", "\u2581", *string.ascii_lowercase]
    return T5TokenizerFast(vocab=[(word, -float(rank)) for rank, word in enumerate(words)], extra_ids=0)


SIZES = {"num_frames": FRAMES, "size": [8 * HEIGHT, 8 * WIDTH]}
"""What longtake.json says where the guidance is the family's."""
RESIDUAL = {"is_residual": True, "patch_size": 2, "in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16}
"""What tells the autoencoder of Wan2.2 5B from that of the others."""


def tiny_vae(**settings: Any) -> AutoencoderKLWan:
    narrow = {
        "base_dim": 4,
        "z_dim": CHANNELS,
        "num_res_blocks": 1,
        "latents_mean": MEAN.flatten().tolist(),
        "latents_std": STD.flatten().tolist(),
    }
    return AutoencoderKLWan(**narrow | settings).eval()


def tiny_transformer(kind: Any = WanTransformer3DModel, **settings: Any) -> Any:
    narrow: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "in_channels": CHANNELS,
        "out_channels": CHANNELS,
        "text_dim": 16,
        "freq_dim": 32,
        "ffn_dim": 64,
        "num_layers": 2,
        "rope_max_seq_len": 64,
    }
    return kind(**narrow | settings)


def tiny_wan(
    parent: Path, name: str = "tiny-wan", kind: Any = WanPipeline, parts: Any = dict, extras: Any = None, **said: Any
) -> Path:
    """Save the model in a new folder; it is 48 x 32 pixels large and 5 latent frames long.

    `parts` makes those of its own, once the random numbers are seeded; `said` goes into model_index.json.
    """
    torch.manual_seed(0)
    root = parent / name
    tokenizer = _tokenizer()
    text = UMT5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    own = {"transformer": tiny_transformer()} | parts()
    whole = {
        "text_encoder": UMT5EncoderModel(text).eval(),
        "vae": tiny_vae(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
    }
    kind(tokenizer=tokenizer, **whole | own, **said).save_pretrained(root)
    settings = SIZES | {"guidance": 2.0}
    (root / "longtake.json").write_text(json.dumps(settings if extras is None else extras))
    return root


def tiny_a14b(parent: Path) -> Path:
    """Save a model with an expert for each end of the noise, as Wan2.2 T2V A14B is."""

    def experts() -> dict[str, Any]:
        return {"transformer": tiny_transformer(), "transformer_2": tiny_transformer()}

    return tiny_wan(parent, "tiny-a14b", parts=experts, extras=SIZES, boundary_ratio=0.875)


def tiny_5b(parent: Path, kind: Any = WanPipeline) -> Path:
    """Save a model whose first frame may be a picture, 96 x 64 pixels large, as Wan2.2 TI2V 5B is."""
    extras = {"num_frames": FRAMES, "size": [16 * HEIGHT, 16 * WIDTH]}
    return tiny_wan(parent, "tiny-5b", kind, lambda: {"vae": tiny_vae(**RESIDUAL)}, extras, expand_timesteps=True)


def sharp_vae() -> AutoencoderKLWan:
    """Return one whose latents of pictures differ as those of a trained one do: a random one makes much the same of
    all."""
    return tiny_vae(latents_mean=[0.0] * CHANNELS, latents_std=[0.01] * CHANNELS)


def woken(transformer: Any) -> Any:
    """Let the frames of a window count for each other."""
    with torch.no_grad():
        for block in transformer.blocks:
            block.attn1.to_v.weight *= 300
    return transformer


def tiny_from_pictures(parent: Path, name: str) -> Path:
    """Save a model that is shown pictures, as those of Wan2.1 (`i2v`, `flf2v`) and Wan2.2 (`i2v-a14b`) are."""
    channels = {"in_channels": 2 * CHANNELS + 4}
    seeing = {"image_dim": 16, "added_kv_proj_dim": 48, "pos_embed_seq_len": 10 if name == "flf2v" else None}

    def parts() -> dict[str, Any]:
        if name == "i2v-a14b":
            experts = {part: woken(tiny_transformer(**channels)) for part in ("transformer", "transformer_2")}
            return experts | {"vae": sharp_vae()} | {"image_encoder": None, "image_processor": None}
        clip = CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
        )
        return {
            "transformer": tiny_transformer(**channels | seeing),
            "image_encoder": CLIPVisionModel(clip).eval(),
            "image_processor": CLIPImageProcessorPil(crop_size=32, size=32),
        }

    said = {"boundary_ratio": 0.9} if name == "i2v-a14b" else {}
    root = tiny_wan(parent, f"tiny-{name}", WanImageToVideoPipeline, parts, SIZES, **said)
    index = root / "model_index.json"
    # As the released folders call it, which were saved where another backend is.
    index.write_text(index.read_text().replace("CLIPImageProcessorPil", "CLIPImageProcessor"))
    return root


def tiny_vace(parent: Path) -> Path:
    """Save a model with blocks of its own for known frames, as Wan2.1 VACE is."""

    def parts() -> dict[str, Any]:
        network = tiny_transformer(WanVACETransformer3DModel, vace_layers=[0], vace_in_channels=2 * CHANNELS + 64)
        return {"transformer": woken(network), "vae": sharp_vae()}

    return tiny_wan(parent, "tiny-vace", WanVACEPipeline, parts, SIZES)


def tiny_skyreels(parent: Path, kind: Any = SkyReelsV2DiffusionForcingPipeline, **settings: Any) -> Path:
    """Save a model with a noise level for every frame that is told a rate, as SkyReels-V2 DF 1.3B is."""

    def parts() -> dict[str, Any]:
        network = tiny_transformer(SkyReelsV2Transformer3DModel, inject_sample_info=True, **settings)
        scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
        return {"transformer": woken(network), "vae": sharp_vae(), "scheduler": scheduler}

    return tiny_wan(parent, "tiny-skyreels", kind, parts, SIZES)
