"""One call of WanTransformer3DModel, which predicts the flow from picture to noise (arXiv 2503.20314)."""

from typing import Any

import torch
from diffusers import WanTransformer3DModel
from jaxtyping import Float, Int
from torch import Tensor

from longtake.arrays import FrameIndex, FrameLevels, Latents
from longtake.errors import InputError
from longtake.models.schedules import flow_schedule
from longtake.models.wan.attention import frame_texts
from longtake.schedule import Schedule, Spacing, to_x0

Text = Float[Tensor, "prompts tokens textwidth"]


def flow_x0(
    transformer: WanTransformer3DModel,
    x: Latents,
    level: FrameLevels | Int[Tensor, "windows"],
    schedule: Schedule,
    text: Text,
    prompt_index: FrameIndex,
) -> Latents:
    """Return x0 of windows; a level a window or a frame, and for every frame the row of its prompt in `text`."""
    network: Any = transformer
    timestep = schedule.timestep[level.cpu()].float().to(x.device)
    if level.ndim == 2:
        # One timestep a token is what the network takes in its place.
        timestep = timestep.repeat_interleave(x.shape[3] * x.shape[4] // network.config.patch_size[1] ** 2, dim=1)
    texts, rows = prompt_index.flatten().to(x.device).unique(return_inverse=True)
    with torch.inference_mode(), frame_texts(transformer, rows):
        (flow,) = network(x.to(network_dtype(transformer)), timestep, text[texts], return_dict=False)
    at = schedule.now(level.reshape(len(level), 1, -1, 1, 1))
    return to_x0(flow, x, at, "flow").to(x.dtype)


def network_dtype(transformer: WanTransformer3DModel) -> torch.dtype:
    """Return the format in which it computes; some of its other layers stay in float32."""
    return transformer.patch_embedding.weight.dtype


def flow_levels(name: str, num_levels: int, shift: float, spacing: Spacing) -> Schedule:
    """Return levels of a flow. Raises InputError, for a model of this name, for a spacing other than trailing."""
    if spacing != "trailing":
        raise InputError(f"{name} has no spacing {spacing!r}, its levels are a flow's; use trailing")
    return flow_schedule(num_levels, shift)
