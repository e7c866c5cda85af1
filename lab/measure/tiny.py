"""Folders in the hub's layout, as small as can be with the depth of the released decoders; random weights."""

import json
import string
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    LTXConditionPipeline,
    LTXVideoTransformer3DModel,
    WanPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from transformers import (  # pyright: ignore
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

CHANNELS, SIDE = 16, 32
RESIDUAL = {"is_residual": True, "patch_size": 2, "in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16}
"""What tells the autoencoder of Wan2.2 5B from that of the others."""
TEXT: dict[str, Any] = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}


def tokenizer() -> T5TokenizerFast:
    """Return one that knows letters."""
    words = ["<pad>", "</s>", "<unk>", "\u2581", *string.ascii_lowercase]
    return T5TokenizerFast(vocab=[(word, -float(rank)) for rank, word in enumerate(words)], extra_ids=0)


def clip_tokenizer() -> CLIPTokenizer:
    """Return one that knows letters, as CLIP's text encoder reads them."""
    words = [*string.ascii_lowercase, *(f"{letter}</w>" for letter in string.ascii_lowercase)]
    signs = ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: rank for rank, word in enumerate([*words, *signs])}, merges=[])


def tiny_wan(parent: Path, residual: bool = False, vace: bool = False, **said: Any) -> Path:
    """Save a model in a new folder; return it. `said` goes into model_index.json."""
    torch.manual_seed(0)
    folder, known = parent / f"tiny-{'vace' if vace else 'wan-5b' if residual else 'wan'}", tokenizer()
    own: Any = {"vace_layers": [0], "vace_in_channels": 2 * CHANNELS + 64} if vace else {}
    transformer = (WanVACETransformer3DModel if vace else WanTransformer3DModel)(
        num_attention_heads=2,
        attention_head_dim=24,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_dim=16,
        freq_dim=32,
        ffn_dim=64,
        num_layers=1,
        **own,
    )
    parts: Any = {
        "tokenizer": known,
        "text_encoder": UMT5EncoderModel(UMT5Config(vocab_size=len(known), **TEXT)).eval(),
        "vae": AutoencoderKLWan(base_dim=4, z_dim=CHANNELS, **(RESIDUAL if residual else {})).eval(),  # pyright: ignore
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "transformer": transformer,
    }
    (WanVACEPipeline if vace else WanPipeline)(**parts, **said).save_pretrained(folder)
    return _told(folder, SIDE)


def tiny_ltx(parent: Path) -> Path:
    """Save a model of LTX-Video 0.9.5 with the decoder of 0.9.0 in a new folder; return it."""
    torch.manual_seed(0)
    folder, known = parent / "tiny-ltx", tokenizer()
    LTXConditionPipeline(
        tokenizer=known,
        text_encoder=T5EncoderModel(T5Config(vocab_size=len(known), **TEXT)).eval(),
        vae=AutoencoderKLLTXVideo(
            latent_channels=CHANNELS, block_out_channels=(4, 8, 8, 8), decoder_block_out_channels=(4, 8, 8, 8)
        ).eval(),  # pyright: ignore
        scheduler=FlowMatchEulerDiscreteScheduler(),
        transformer=LTXVideoTransformer3DModel(
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            num_attention_heads=2,
            attention_head_dim=8,
            cross_attention_dim=16,
            num_layers=1,
            caption_channels=16,
        ),
    ).save_pretrained(folder)
    return _told(folder, SIDE)


def _told(folder: Path, side: int) -> Path:
    (folder / "longtake.json").write_text(json.dumps({"num_frames": 4, "size": [side, side], "guidance": 1.0}))
    return folder


FOLDERS: dict[str, Callable[[Path], Path]] = {
    "wan": tiny_wan,
    "wan-5b": partial(tiny_wan, residual=True, expand_timesteps=True),
    "vace": partial(tiny_wan, vace=True),
    "ltx": tiny_ltx,
}
"""By what people call them; each is given a folder to write in."""
