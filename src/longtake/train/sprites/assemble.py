"""Putting trained parts into folders of the hub's layout, as `diffusers.TextToVideoSDPipeline` loads them.

`pack` takes half the bytes of half precision, for a start of further training: 8 bits a weight, a scale a row.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    TextToVideoSDPipeline,
    UNet3DConditionModel,
    WanTransformer3DModel,
)
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import pixel_shuffle
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextModel, CLIPTokenizer

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
    costs = json.loads((complete / "longtake.json").read_text())
    _write(folder / "longtake.json", {**costs, **extras, "shared": f"../{complete.name}"})
    forget_places(folder)


def assemble_transformer(text: Path, vae: Path, transformer: Path, shift: float, extras: Extras, folder: Path) -> None:
    """Write `folder` with half-precision weights of the transformer and what belongs to it; see `WanPicturesPipeline`.

    `text` holds `text_encoder/` and `tokenizer/`, `shift` is that of the noise levels.
    """
    network, decoder = WanTransformer3DModel.from_pretrained(transformer), AutoencoderKL.from_pretrained(vae)
    costs = _transformer_costs(network, decoder, extras["num_frames"])
    network.half().save_pretrained(folder / "transformer")
    decoder.half().save_pretrained(folder / "vae")
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(text / part, folder / part, dirs_exist_ok=True)
    FlowMatchEulerDiscreteScheduler(shift=shift).save_pretrained(folder / "scheduler")
    parts = {
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    }
    _write(folder / "model_index.json", {"_class_name": "WanPicturesPipeline", **parts})
    _write(folder / "longtake.json", {**extras, **costs})
    forget_places(folder)


@torch.no_grad()
def _transformer_costs(network: Any, vae: Any, num_frames: int) -> dict[str, int]:
    config, side = network.config, vae.config.sample_size // 2 ** (len(vae.config.block_out_channels) - 1)
    latents = torch.zeros(1, config.in_channels, num_frames, side, side)
    text, timestep = torch.zeros(1, 20, config.text_dim), torch.zeros(1)
    return {
        "forward_flops": _flops(lambda: network(latents, timestep, text)),
        "decode_flops": _flops(lambda: vae.decode(latents[:, :, 0])),
    }


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


_SCALE = ".scale"
_LARGEST = 127


def pack(weights: dict[str, Tensor], path: Path) -> None:
    """Write weights: matrices in 8 bits, half a step of which is 1 / 254 of a row's largest; all else in float16."""
    packed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.ndim < 2:
            packed[name] = weight.half()
            continue
        rows = weight.float().flatten(1)
        # Rounded up to half precision first, so that no quotient is above 127.
        scale = (rows.abs().amax(dim=1, keepdim=True) / _LARGEST * (1 + 2**-10)).half().clamp(min=2**-24)
        packed[name] = (rows / scale.float()).round().to(torch.int8).view(weight.shape)
        packed[name + _SCALE] = scale
    save_file({name: value.contiguous() for name, value in packed.items()}, path)


def unpack(path: Path) -> dict[str, Tensor]:
    """Return the weights in float32."""
    packed = load_file(path)
    weights = {}
    for name, value in packed.items():
        if name.endswith(_SCALE):
            continue
        scale = packed.get(name + _SCALE)
        rows = value.float() if scale is None else value.flatten(1).float() * scale.float()
        weights[name] = rows.view(value.shape)
    return weights
