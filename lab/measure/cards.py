"""Which released model fits which card, counted: python -m lab measure cards [--models ...] [--no-count].

The configs are those of the released folders; no weights are there. What the parts of a model take is worked out by the
formula behind `longtake plan`, and counted on fake tensors, which have a shape and no numbers. Then, for every card and
offload, the longest window of FIFO that fits, in latent frames up to the model's own.

Not counted: memory that a kernel takes for itself, what the allocator loses to gaps, the CUDA context; weights that
are quantised.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import diffusers
import torch
from torch._subclasses import FakeTensorMode
from transformers import CLIPImageProcessorPil  # pyright: ignore

from lab.measure.tiny import clip_tokenizer, tokenizer
from longtake.apps.generate.job import Job
from longtake.apps.plan.costs import by_formula, estimate
from longtake.model import PerFrameNoise, VideoSpec
from longtake.models import FAMILIES, spec_of
from longtake.models.hub.blank import class_named, made_of_config
from longtake.models.hub.configs import Configs, Part, Shapes
from longtake.models.hub.fake import FakeModel
from longtake.models.hub.family import Family
from longtake.models.hub.loading import Loading, Offload
from longtake.models.hub.offload import FIRST
from longtake.report import Order
from longtake.request import PromptTimeline, Request
from longtake.sampler import Plan
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.fifo.plan import Fifo
from longtake.video.formats import FORMATS

CARDS = (8, 12, 16, 24, 48, 80)
"""Gigabytes, as cards are sold: of 2 ** 30 bytes."""
SPARE = 0.9
"""Of a card, what torch can have: the rest is the context, gaps and what shows the desktop."""
WAYS: dict[str, tuple[Offload, bool]] = {
    "none": ("none", False),
    "text": ("text", False),
    "text, tiles": ("text", True),
    "model": ("model", False),
    "model, tiles": ("model", True),
}
"""`--offload`, and whether `--vae-tiling`, by name."""

UMT5 = {
    "_class_name": "UMT5EncoderModel",
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "vocab_size": 256384,
    "feed_forward_proj": "gated-gelu",
}
T5 = UMT5 | {"_class_name": "T5EncoderModel", "vocab_size": 32128}
CLIP = {
    "_class_name": "CLIPVisionModel",
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "hidden_act": "gelu",
    "projection_dim": 1024,
}
CLIP_TEXT = {
    "_class_name": "CLIPTextModel",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "vocab_size": 49408,
}
CLIP_TEXT_H = CLIP_TEXT | {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
}
GEMMA = {
    "_class_name": "Gemma3ForConditionalGeneration",
    "text_config": {
        "hidden_size": 3840,
        "intermediate_size": 15360,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 256,
        "vocab_size": 262208,
    },
    "vision_config": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 896,
        "patch_size": 14,
    },
}
WAN = {"_class_name": "WanTransformer3DModel"}
WAN_1B = WAN | {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}
WAN_5B = WAN | {"in_channels": 48, "out_channels": 48, "num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30}
WAN_I2V = WAN | {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}
VACE = {"_class_name": "WanVACETransformer3DModel", "vace_in_channels": 96}
VACE_1B = VACE | {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30, "vace_layers": list(range(0, 30, 2))}
SKYREELS_1B = WAN_1B | {"_class_name": "SkyReelsV2Transformer3DModel", "inject_sample_info": True}
WAN_VAE = {"_class_name": "AutoencoderKLWan"}
WAN_VAE_22 = WAN_VAE | {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
}
UNIPC = {"_class_name": "UniPCMultistepScheduler", "flow_shift": 3.0, "prediction_type": "flow_prediction"}
LTX = {"_class_name": "LTXVideoTransformer3DModel"}
LTX_13B = LTX | {"attention_head_dim": 128, "cross_attention_dim": 4096, "num_layers": 48}
LTX_VAE = {"_class_name": "AutoencoderKLLTXVideo"}
LTX_VAE_97 = LTX_VAE | {
    "down_block_types": ["LTXVideo095DownBlock3D"] * 4,
    "block_out_channels": [128, 256, 512, 1024, 2048],
    "layers_per_block": [4, 6, 6, 2, 2],
    "spatio_temporal_scaling": [True, True, True, True],
    "downsample_type": ["spatial", "temporal", "spatiotemporal", "spatiotemporal"],
    "decoder_block_out_channels": [256, 512, 1024],
    "decoder_layers_per_block": [5, 5, 5, 5],
    "decoder_spatio_temporal_scaling": [True, True, True],
    "decoder_inject_noise": [False, False, False, False],
    "upsample_residual": [True, True, True],
    "upsample_factor": [2, 2, 2],
    "timestep_conditioning": True,
}
LTX_2 = {"_class_name": "LTX2VideoTransformer3DModel", "attention_head_dim": 128}
LTX_2_VAE = {
    "_class_name": "AutoencoderKLLTX2Video",
    "decoder_block_out_channels": [256, 512, 1024],
    "decoder_layers_per_block": [5, 5, 5, 5],
    "decoder_spatio_temporal_scaling": [True, True, True],
    "upsample_residual": [True, True, True],
    "upsample_factor": [2, 2, 2],
    "decoder_causal": False,
}
COGVIDEOX = {"_class_name": "CogVideoXTransformer3DModel"}
COGVIDEOX_5B = COGVIDEOX | {
    "num_attention_heads": 48,
    "num_layers": 42,
    "use_rotary_positional_embeddings": True,
}
COGVIDEOX_VAE = {"_class_name": "AutoencoderKLCogVideoX"}
SHIFTED = {"_class_name": "CogVideoXDDIMScheduler", "prediction_type": "v_prediction"}
EULER = {"_class_name": "FlowMatchEulerDiscreteScheduler"}
SVD = {"_class_name": "UNetSpatioTemporalConditionModel", "num_frames": 25, "sample_size": 96}
SVD_VAE = {
    "_class_name": "AutoencoderKLTemporalDecoder",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "layers_per_block": 2,
}
IMAGE_VAE = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
ANIMATEDIFF = {
    "_class_name": "UNetMotionModel",
    "sample_size": 64,
    "cross_attention_dim": 768,
    "use_motion_mid_block": False,
}
TEXT_TO_VIDEO = {"_class_name": "TextToVideoSDPipeline"}
MODELSCOPE = {"_class_name": "UNet3DConditionModel", "sample_size": 32}
DDIM = {"_class_name": "DDIMScheduler", "beta_schedule": "linear"}
KARRAS = {"_class_name": "EulerDiscreteScheduler", "prediction_type": "v_prediction", "use_karras_sigmas": True}


def _wan(network: dict[str, Any], vae: dict[str, Any] = WAN_VAE, **others: Any) -> dict[str, dict[str, Any]]:
    return {"transformer": network, "vae": vae, "text_encoder": UMT5, "scheduler": UNIPC, **others}


def _ltx(network: dict[str, Any], vae: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {"transformer": network, "vae": vae, "text_encoder": T5, "scheduler": EULER}


def _cogvideox(network: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {"transformer": network, "vae": COGVIDEOX_VAE, "text_encoder": T5, "scheduler": SHIFTED}


def _images(network: dict[str, Any], text: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {"unet": network, "vae": IMAGE_VAE, "text_encoder": text, "scheduler": DDIM}


@dataclass(frozen=True, kw_only=True)
class Released:
    """What the folder of a model says."""

    parts: dict[str, dict[str, Any]]
    index: dict[str, Any]
    """Of model_index.json, beside the parts."""


RELEASED = {
    "Wan2.1 T2V 1.3B": Released(parts=_wan(WAN_1B), index={}),
    "Wan2.1 VACE 1.3B": Released(parts=_wan(VACE_1B), index={}),
    "Wan2.2 TI2V 5B": Released(parts=_wan(WAN_5B, WAN_VAE_22), index={"expand_timesteps": True}),
    "Wan2.1 T2V 14B": Released(parts=_wan(WAN), index={}),
    "Wan2.1 I2V 14B": Released(parts=_wan(WAN_I2V, image_encoder=CLIP, image_processor={}), index={}),
    "Wan2.2 T2V A14B": Released(parts=_wan(WAN, transformer_2=WAN), index={"boundary_ratio": 0.875}),
    "SkyReels-V2 DF 1.3B": Released(
        parts=_wan(SKYREELS_1B), index={"_class_name": "SkyReelsV2DiffusionForcingPipeline"}
    ),
    "LTX-Video 0.9.0 2B": Released(parts=_ltx(LTX, LTX_VAE), index={"_class_name": "LTXConditionPipeline"}),
    "Stable Video Diffusion XT": Released(
        parts={
            "unet": SVD,
            "vae": SVD_VAE,
            "image_encoder": CLIP | {"_class_name": "CLIPVisionModelWithProjection"},
            "scheduler": KARRAS,
            "feature_extractor": {},
        },
        index={},
    ),
    "LTX-Video 0.9.7 13B": Released(parts=_ltx(LTX_13B, LTX_VAE_97), index={"_class_name": "LTXConditionPipeline"}),
    "LTX-2 19B": Released(
        parts=_ltx(LTX_2, LTX_2_VAE) | {"text_encoder": GEMMA, "connectors": {"_class_name": "LTX2TextConnectors"}},
        index={"_class_name": "LTX2Pipeline"},
    ),
    "CogVideoX 2b": Released(parts=_cogvideox(COGVIDEOX), index={"_class_name": "CogVideoXPipeline"}),
    "CogVideoX 5b": Released(parts=_cogvideox(COGVIDEOX_5B), index={"_class_name": "CogVideoXPipeline"}),
    "AnimateDiff on SD 1.5": Released(parts=_images(ANIMATEDIFF, CLIP_TEXT), index={}),
    "ModelScope 1.7B": Released(parts=_images(MODELSCOPE, CLIP_TEXT_H), index=TEXT_TO_VIDEO),
    "ZeroScope 576w": Released(parts=_images(MODELSCOPE | {"sample_size": [40, 72]}, CLIP_TEXT_H), index=TEXT_TO_VIDEO),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is counted."""

    models: tuple[str, ...] = tuple(RELEASED)
    count: bool = True  # on fake tensors, beside the formula; a minute or two a model


def configs_of(name: str, **extras: Any) -> tuple[Configs, Family]:
    """Return the configs of a released model, and the row that runs it; `extras` are what longtake.json says."""
    released = RELEASED[name]
    network = next(config for part, config in released.parts.items() if part in FIRST)
    family = FAMILIES.get(network["_class_name"]) or FAMILIES[released.index["_class_name"]]
    parts = {
        part: Part(
            where=f"{name}/{part}",
            config=config,
            shapes=partial(_shapes, json.dumps(config)) if part in family.networks else dict,
        )
        for part, config in ({"tokenizer": {}} | released.parts).items()
        if part in (*family.networks, *family.others)
    }
    return Configs(name=name, where=name, index=released.index, parts=parts, extras=extras), family


@cache
def _shapes(told: str) -> Shapes:
    """Return the tensors of the network of a config."""
    config = json.loads(told)
    kind = class_named(config.pop("_class_name"))
    with FakeTensorMode():
        network = made_of_config(kind, config)
    named = {id(tensor): (key, tensor) for key, tensor in network.state_dict(keep_vars=True).items()}
    return {key: tuple(tensor.shape) for key, tensor in named.values()}


def fake(name: str, dtype: torch.dtype) -> FakeModel:
    """Return a released model on fake tensors."""
    configs, family = configs_of(name)
    kind = configs.parts["scheduler"].config["_class_name"]
    scheduler = getattr(diffusers, kind).from_config(dict(configs.parts["scheduler"].config))
    others = {"scheduler": scheduler}
    if "tokenizer" in configs.parts:
        is_clip = configs.parts["text_encoder"].config["_class_name"] == "CLIPTextModel"
        others["tokenizer"] = clip_tokenizer() if is_clip else tokenizer()
    for part in {"image_processor", "feature_extractor"} & configs.parts.keys():
        others[part] = CLIPImageProcessorPil()
    return FakeModel(configs, family, spec_of(configs, family), dtype, others)


def plan_of(spec: VideoSpec) -> Plan:
    """Return a plan of ten minutes by FIFO; window after window where the network takes one level a window."""
    sampler = Fifo() if PerFrameNoise in spec.capabilities else Chunked()
    return sampler.plan(Request(prompts=PromptTimeline.constant("a red car"), frames=round(600 * spec.fps)), spec)


def peak(name: str, num_frames: int, way: str) -> int:
    """Return the bytes of a GPU that a window of so many latent frames takes, by the formula."""
    offload, in_tiles = WAYS[way]
    spec = spec_of(*configs_of(name, num_frames=num_frames), Loading(vae_tiling=in_tiles))
    plan = plan_of(spec)
    order = Order(
        model=name,
        loading=Loading(offload=offload, vae_tiling=in_tiles),
        request=plan.request,
        sampler=plan.settings,
        device="cuda",
        dtype="bfloat16",
    )
    return estimate(Job(order=order, spec=spec, format=FORMATS["mp4"], plan=plan)).peak_memory_bytes


def longest(name: str, card: int, way: str) -> int:
    """Return the longest window that fits a card; 0 for none."""
    native = spec_of(*configs_of(name)).num_frames
    fitting = (frames for frames in range(native, 0, -1) if peak(name, frames, way) <= SPARE * card * 2**30)
    return next(fitting, 0)


def measure(chosen: Settings) -> str:
    """Return two tables: parts by formula and as counted, and what fits where."""
    return "\n".join([*(_parts(chosen) if chosen.count else ()), "", *_cards(chosen)])


def counted(name: str) -> dict[str, tuple[int, int]]:
    """Return of every part of a released model in bfloat16 what the formula says, and what is counted."""
    spec = spec_of(*configs_of(name))
    plan = plan_of(spec)
    formula = by_formula(spec, plan, 2)
    return {part: (formula[part], size) for part, size in fake(name, torch.bfloat16).counted(plan).items()}


def _parts(chosen: Settings) -> Iterator[str]:
    yield "| model | " + " | ".join(_PARTS) + " |"
    yield "| --- |" + " --- |" * len(_PARTS)
    for name in chosen.models:
        cells = [
            f"{size / 1e9:.2f} ({formula / size - 1:+.0%})" if size else "-" for formula, size in counted(name).values()
        ]
        yield f"| {name} | " + " | ".join(cells) + " |"


_PARTS = ("text encoder", "image encoder", "decoder", "network", "decoder's memory", "denoising", "decoding")


def _cards(chosen: Settings) -> Iterator[str]:
    yield "| model, its window | `--offload` | all of it | " + " | ".join(f"{card} GB" for card in CARDS) + " |"
    yield "| --- | --- | --- |" + " --- |" * len(CARDS)
    for name in chosen.models:
        native = spec_of(*configs_of(name)).num_frames
        for way, (offload, in_tiles) in WAYS.items():
            family = configs_of(name)[1]
            if (offload == "model" and not family.takes_turns) or (in_tiles and not family.tiles):
                continue
            fits = [longest(name, card, way) for card in CARDS]
            yield (
                f"| {name}, {native} | {way} | {peak(name, native, way) / 1e9:.1f} GB | "
                + " | ".join(str(frames or "-") for frames in fits)
                + " |"
            )
