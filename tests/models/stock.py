"""What the networks of diffusers say when diffusers alone calls them: one noise level and one prompt for a window."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import WanPipeline
from torch import Tensor

from longtake.schedule import Schedule, to_x0

Call = Callable[[Any, Tensor, Tensor, str], Tensor]


def _clip(pipeline: Any, prompt: str) -> Tensor:
    length = min(pipeline.tokenizer.model_max_length, pipeline.text_encoder.config.max_position_embeddings)
    given = {"padding": "max_length", "max_length": length, "truncation": True, "return_tensors": "pt"}
    return pipeline.text_encoder(pipeline.tokenizer([prompt], **given).input_ids)[0]


def _unet(pipeline: Any, x: Tensor, timestep: Tensor, prompt: str) -> Tensor:
    return pipeline.unet(x, timestep, _clip(pipeline, prompt)).sample


def _motion(pipeline: Any, x: Tensor, timestep: Tensor, prompt: str) -> Tensor:
    return pipeline.unet(x, timestep, _clip(pipeline, prompt).repeat_interleave(x.shape[2], dim=0)).sample


def _latte(pipeline: Any, x: Tensor, timestep: Tensor, prompt: str) -> Tensor:
    tokens = pipeline.tokenizer([prompt], return_tensors="pt")
    text = pipeline.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
    return pipeline.transformer(x, timestep, encoder_hidden_states=text).sample[:, : x.shape[1]]


def _wan(pipeline: Any, x: Tensor, timestep: Tensor, prompt: str) -> Tensor:
    if type(pipeline).__module__.startswith("diffusers"):
        text, _ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False, max_sequence_length=512)
    else:
        text = _clip(pipeline, prompt)
    return pipeline.transformer(x, timestep, text).sample


def _skyreels(pipeline: Any, x: Tensor, timestep: Tensor, prompt: str) -> Tensor:
    text = WanPipeline._get_t5_prompt_embeds(pipeline, prompt, max_sequence_length=512)
    by_frame = timestep[:, None].expand(-1, x.shape[2])
    return pipeline.transformer(x, by_frame, text, enable_diffusion_forcing=True, fps=[1]).sample


def _vace(pipeline: Any, x: Tensor, timestep: Tensor, prompt: str) -> Tensor:
    # Its own cleans prompts by a package that longtake does not need.
    text = WanPipeline._get_t5_prompt_embeds(pipeline, prompt, max_sequence_length=512)
    stride, side = pipeline.vae_scale_factor_temporal, pipeline.vae_scale_factor_spatial
    frames, height, width = stride * (x.shape[2] - 1) + 1, side * x.shape[3], side * x.shape[4]
    video, mask, references = pipeline.preprocess_conditions(
        height=height, width=width, num_frames=frames, dtype=torch.float32, device="cpu"
    )
    given = pipeline.prepare_video_latents(video, mask, references, device="cpu")
    control = torch.cat([given, pipeline.prepare_masks(mask, references)], dim=1)
    return pipeline.transformer(x, timestep, text, control_hidden_states=control).sample


def _ltx(pipeline: Any, x: Tensor, timestep: Tensor, prompt: str) -> Tensor:
    text, valid, _, _ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False)
    frames, height, width = x.shape[2:]
    flow = pipeline.transformer(
        x.flatten(2).transpose(1, 2),
        text,
        timestep.float(),
        valid,
        frames,
        height,
        width,
        rope_interpolation_scale=(8 / 25, 32, 32),
    ).sample
    return flow.transpose(1, 2).unflatten(2, (frames, height, width))


def _ltx2(pipeline: Any, x: Tensor, timestep: Tensor, prompt: str) -> Tensor:
    states, mask, _, _ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False)
    text, heard, valid = pipeline.connectors(states, mask, padding_side="left")
    frames, height, width = x.shape[2:]
    flow = pipeline.transformer(
        x.flatten(2).transpose(1, 2),
        torch.randn(len(x), 7, pipeline.transformer.config.audio_in_channels),
        text,
        heard,
        timestep=timestep.float(),
        sigma=timestep.float(),
        encoder_attention_mask=valid,
        audio_encoder_attention_mask=valid,
        num_frames=frames,
        height=height,
        width=width,
        audio_num_frames=7,
        isolate_modalities=True,
        use_cross_timestep=True,
    ).sample
    return flow.transpose(1, 2).unflatten(2, (frames, height, width))


def _cogvideox(pipeline: Any, x: Tensor, timestep: Tensor, prompt: str) -> Tensor:
    text, _ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False)
    rotation, (frames, height, width) = None, x.shape[2:]
    if pipeline.transformer.config.use_rotary_positional_embeddings:
        rotation = pipeline._prepare_rotary_positional_embeddings(8 * height, 8 * width, frames, x.device)
    return pipeline.transformer(x.transpose(1, 2), text, timestep, image_rotary_emb=rotation).sample.transpose(1, 2)


def _svd(pipeline: Any, x: Tensor, timestep: Tensor, prompt: str) -> Tensor:
    given = torch.cat([x, torch.zeros_like(x)], dim=1).transpose(1, 2)
    seen = torch.zeros(len(x), 1, pipeline.image_encoder.config.projection_dim)
    told = pipeline._get_add_time_ids(6, 127, 0.02, x.dtype, len(x), 1, False)
    return pipeline.unet(given, timestep, seen, told).sample.transpose(1, 2)


STOCK: dict[str, Call] = {
    "UNet3DConditionModel": _unet,
    "UNetMotionModel": _motion,
    "UNetSpatioTemporalConditionModel": _svd,
    "LatteTransformer3DModel": _latte,
    "WanTransformer3DModel": _wan,
    "WanVACETransformer3DModel": _vace,
    "SkyReelsV2Transformer3DModel": _skyreels,
    "CogVideoXTransformer3DModel": _cogvideox,
    "LTXVideoTransformer3DModel": _ltx,
    "LTX2VideoTransformer3DModel": _ltx2,
}
"""By the class of a network."""


def network_of(pipeline: Any) -> Any:
    """Return the part that denoises."""
    return pipeline.transformer if "transformer" in vars(pipeline) else pipeline.unet


def stock_x0(pipeline: Any, x: Tensor, level: int, schedule: Schedule, prompt: str) -> Tensor:
    """Return x0 of windows x; raises KeyError for a network of diffusers that has no row in `STOCK`."""
    timestep = schedule.timestep[torch.full((len(x),), level)]
    with torch.no_grad():
        predicted = STOCK[type(network_of(pipeline)).__name__](pipeline, x, timestep, prompt)
    is_flow = "Flow" in type(pipeline.scheduler).__name__
    said = pipeline.scheduler.config.get("prediction_type", "flow" if is_flow else "epsilon")
    return to_x0(predicted, x, schedule.now(torch.tensor(level)), "flow" if said.startswith("flow") else said)
