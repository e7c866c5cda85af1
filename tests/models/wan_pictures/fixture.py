"""A tiny folder of Wan's transformer on pictures' latents, as training writes it."""

from pathlib import Path

import torch

from longtake.train.sprites.assemble import assemble_transformer
from longtake.train.sprites.build import (
    SpriteSizes,
    TransformerSizes,
    build_text_encoder,
    build_transformer,
    build_vae,
)
from longtake.train.sprites.text import end_of_text, train_tokenizer

SIZES = SpriteSizes(picture=16, vae_channels=(8, 8), latent_channels=4, text_width=16, text_layers=1)
TRANSFORMER = TransformerSizes(latent_channels=4, patch=4, heads=2, head_width=12, layers=2, text_width=16)
EXTRAS = {"guidance": 2.0, "clean_frames": True, "vocabulary": ("rocket", "cat"), "num_frames": 4, "fps": 8}
CAPTIONS = ("a rocket flies up", "the cat rests", "a red car", "a blue boat")


def tiny_wan_pictures(parts: Path) -> Path:
    """Write the parts, and of them the folder; return it."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(CAPTIONS, max_length=12)
    tokenizer.save_pretrained(parts / "tokenizer")
    build_text_encoder(SIZES, len(tokenizer), 12, end_of_text(tokenizer)).save_pretrained(parts / "text_encoder")
    build_vae(SIZES).save_pretrained(parts / "vae")
    network = build_transformer(TRANSFORMER)
    torch.nn.init.normal_(network.proj_out.weight)
    network.save_pretrained(parts / "transformer")
    assemble_transformer(parts, parts / "vae", parts / "transformer", 1.0, EXTRAS, parts / "pictures")
    return parts / "pictures"
