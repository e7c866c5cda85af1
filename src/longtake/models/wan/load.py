"""The parts of a Wan folder as objects of diffusers and transformers: local files only, nothing that runs code."""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from diffusers.utils import is_accelerate_available
from transformers import AutoTokenizer, PreTrainedTokenizerBase, UMT5EncoderModel

from longtake.errors import MissingExtraError
from longtake.models.hub.load import library_part, one_line_errors, text_encoder
from longtake.models.wan.spec import flow_shift


@dataclass(frozen=True, kw_only=True)
class WanParts:
    """What a model of the Wan family consists of, ready to run."""

    transformer: WanTransformer3DModel
    vae: AutoencoderKLWan
    text_encoder: UMT5EncoderModel
    tokenizer: PreTrainedTokenizerBase
    shift: float
    """Of the noise levels; see `flow_schedule`."""


def load_wan_parts(places: dict[str, Path], device: torch.device, dtype: torch.dtype) -> WanParts:
    """Load the parts that lie at `places`; the autoencoder is kept in float32, as the stock pipeline advises.

    Raises CheckpointError for damaged files, InputError for noise levels of another kind.
    """
    if not is_accelerate_available():
        # The library refuses to load this transformer otherwise: some of its layers stay in float32.
        raise MissingExtraError("accelerate", "train")
    shift = flow_shift(places["scheduler"])
    with one_line_errors(places["tokenizer"]):
        tokenizer = AutoTokenizer.from_pretrained(places["tokenizer"], local_files_only=True, trust_remote_code=False)
    # UMT5 overflows in float16.
    text_dtype = torch.bfloat16 if dtype == torch.float16 else dtype
    return WanParts(
        transformer=library_part(WanTransformer3DModel, places["transformer"], "transformer", dtype).to(device),
        vae=library_part(AutoencoderKLWan, places["vae"], "vae", torch.float32).to(device),
        text_encoder=text_encoder(UMT5EncoderModel, places["text_encoder"], text_dtype).to(device),
        tokenizer=tokenizer,
        shift=shift,
    )
