"""Putting trained parts into folders of the hub's layout, as `diffusers.TextToVideoSDPipeline` loads them."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, TextToVideoSDPipeline, UNet3DConditionModel
from torch.nn.functional import pixel_shuffle
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextModel, CLIPTokenizer

from longtake.models.hub.files import read_json
from longtake.models.modelscope.spec import cell_side
from longtake.train.sprites.build import Predicted, build_scheduler

Extras = Mapping[str, Any]
"""Fields of longtake.json, for which the hub's layout has no place; `num_frames` is one of them."""


def assemble(
    text: Path, vae: Path, unet: Path, extras: Extras, folder: Path, predicts: Predicted = "v_prediction"
) -> None:
    """Write `folder` with half-precision weights from the folders that training left.

    `text` holds `text_encoder/` and `tokenizer/`, `predicts` is what the UNet says.
    """
    scheduler: Any = build_scheduler(predicts)
    pipeline = TextToVideoSDPipeline(
        vae=AutoencoderKL.from_pretrained(vae),
        text_encoder=CLIPTextModel.from_pretrained(text / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(text / "tokenizer"),
        unet=UNet3DConditionModel.from_pretrained(unet),
        scheduler=scheduler,
    )
    costs = _costs(pipeline, extras["num_frames"])
    pipeline.to(dtype=torch.float16).save_pretrained(folder)
    # The older layout of CLIP's tokenizer, beside the newer single file.
    pipeline.tokenizer.backend_tokenizer.model.save(str(folder / "tokenizer"))
    # Loaded as the config says; a half-precision text encoder beside a float32 denoiser would crash the pipeline.
    pipeline.text_encoder.config.dtype = torch.float32
    pipeline.text_encoder.config.save_pretrained(folder / "text_encoder")
    _write(folder / "longtake.json", {**extras, **costs})
    forget_places(folder)


def assemble_sibling(unet: Path, extras: Extras, complete: Path, folder: Path) -> None:
    """Write `folder` with a denoiser only; everything else is taken from `complete`, the folder beside it."""
    UNet3DConditionModel.from_pretrained(unet).half().save_pretrained(folder / "unet")
    shutil.copyfile(complete / "model_index.json", folder / "model_index.json")
    costs = read_json(complete / "longtake.json")
    _write(folder / "longtake.json", {**costs, **extras, "shared": f"../{complete.name}"})
    forget_places(folder)


@torch.no_grad()
def _costs(pipeline: TextToVideoSDPipeline, num_frames: int) -> dict[str, int]:
    """Floating-point operations of one evaluation of the denoiser and of decoding one frame."""
    unet, config = pipeline.unet, pipeline.unet.config
    shape = (config.in_channels, num_frames, config.sample_size, config.sample_size)
    text = torch.zeros(1, pipeline.tokenizer.model_max_length, config.cross_attention_dim)
    latents = torch.zeros(1, *shape)
    own = pixel_shuffle(latents[:, :, 0], cell_side(config.in_channels, pipeline.vae.config.latent_channels))
    return {
        "forward_flops": _flops(lambda: unet(latents, 0, text)),
        "decode_flops": _flops(lambda: pipeline.vae.decode(own)),
    }


def _flops(call: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def forget_places(folder: Path) -> None:
    """Remove from all settings the folders that the parts were loaded from."""
    for path in [*folder.glob("*.json"), *folder.glob("*/*config.json")]:
        content = json.loads(path.read_text())
        if "_name_or_path" in content:
            del content["_name_or_path"]
            _write(path, content)
