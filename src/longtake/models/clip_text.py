"""What CLIP's text encoder makes of prompts."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer


def text_states(
    tokenizer: CLIPTokenizer, encoder: CLIPTextModel, prompts: Sequence[str]
) -> Float[Tensor, "prompts tokens width"]:
    """Return the encoder's last states of prompts, cut or padded to the tokenizer's length."""
    # A tokenizer's folder need not name a length; then that of the encoder's positions counts.
    length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    tokens = tokenizer(
        list(prompts),
        padding="max_length",
        max_length=length,
        truncation=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        return encoder(tokens.input_ids.to(encoder.device))[0]
