"""Calls of WanTransformer3DModel and its like, which predict the flow from picture to noise (arXiv 2503.20314)."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import SkyReelsV2Transformer3DModel
from jaxtyping import Float, Int
from torch import Tensor

from longtake.arrays import FrameIndex, FrameLevels, Latents
from longtake.attention import FrameMixer
from longtake.model import VideoSpec
from longtake.models.hooks import network_call
from longtake.models.schedules import check_flow_spacing, flow_schedule, given_levels
from longtake.models.wan.attention import WanTransformer, frame_texts, mixed_frames
from longtake.schedule import Schedule, Spacing, to_x0

Text = Float[Tensor, "prompts tokens textwidth"]
SKYREELS_FPS = [1]
"""The row of 24 frames per second among the two rates that SkyReels-V2 was told of in training; the other is 16."""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What a network is given beside noisy windows."""

    channels: Latents | None = None
    """Appended to those of the noise."""
    pictures: Float[Tensor, "windows pictures tokens imagewidth"] | None = None
    """What CLIP sees in pictures, which every frame attends to."""
    control: Latents | None = None
    """What VACE's own blocks are given."""

    def of(self, windows: Sequence[int] | Tensor) -> "Beside":
        """Return that of some windows."""
        parts = {name: tensor[windows] for name, tensor in vars(self).items() if tensor is not None}
        return Beside(**parts)


NOTHING = Beside()


class Experts:
    """The transformers of a model: one, or one for each end of the noise, and a frame is made by that of its level."""

    def __init__(self, pipeline: Any, boundary: float | None) -> None:
        """Take those of a pipeline; `boundary` is the timestep from which up the first one is right."""
        self.transformers: list[WanTransformer] = [pipeline.transformer]
        if boundary is not None:
            self.transformers.append(pipeline.transformer_2)
        self.boundary = boundary or 0.0
        self.last = 0

    def x0(
        self,
        x: Latents,
        level: FrameLevels | Int[Tensor, "windows"],
        schedule: Schedule,
        text: Text,
        prompt_index: FrameIndex,
        beside: Beside = NOTHING,
    ) -> Latents:
        """Return x0 of windows; see `flow_x0`. A window whose frames belong to both experts is given to both."""
        is_noisy = (schedule.timestep[level.cpu()].float() >= self.boundary).to(x.device)
        x0 = torch.empty_like(x)
        # Beginning with the one that ran last: where they take turns on the device, that one is there.
        for expert in sorted(range(len(self.transformers)), key=lambda expert: expert != self.last):
            wanted = ~is_noisy if expert else is_noisy
            windows = wanted.reshape(len(x), -1).any(dim=1).nonzero()[:, 0]
            if not len(windows):
                continue
            rows = prompt_index[windows.to(prompt_index.device)]
            levels = level[windows.to(level.device)]
            made = flow_x0(self.transformers[expert], x[windows], levels, schedule, text, rows, beside.of(windows))
            x0[windows] = torch.where(wanted[windows].reshape(len(windows), 1, -1, 1, 1), made, x0[windows])
            self.last = expert
        return x0

    @contextmanager
    def mixing(self, mixer: FrameMixer, reach: int) -> Iterator[None]:
        """Let `mixer` bring the tokens of all frames together in all of them; see `mixed_frames`."""
        with ExitStack() as stack:
            for transformer in self.transformers:
                stack.enter_context(mixed_frames(transformer, mixer, reach))
            yield


def flow_x0(
    transformer: WanTransformer,
    x: Latents,
    level: FrameLevels | Int[Tensor, "windows"],
    schedule: Schedule,
    text: Text,
    prompt_index: FrameIndex,
    beside: Beside = NOTHING,
) -> Latents:
    """Return x0 of windows; a level a window or a frame, and for every frame the row of its prompt in `text`."""
    network: Any = transformer
    timestep = schedule.timestep[level.cpu()].float().to(x.device)
    own: dict[str, Any] = {}
    if isinstance(transformer, SkyReelsV2Transformer3DModel):
        # It takes a timestep a frame. One rate for all windows: for one each it puts them in the wrong places.
        own = {"enable_diffusion_forcing": level.ndim == 2, "fps": SKYREELS_FPS}
    elif level.ndim == 2:
        # One timestep a token is what the network takes in its place.
        timestep = timestep.repeat_interleave(x.shape[3] * x.shape[4] // network.config.patch_size[1] ** 2, dim=1)
    # What a frame attends to: its prompt, and its window's pictures.
    owner = torch.zeros_like(prompt_index) if beside.pictures is None else _window_of(prompt_index)
    pairs, rows = torch.stack([owner, prompt_index]).flatten(1).to(x.device).unique(dim=1, return_inverse=True)
    dtype = network_dtype(transformer)
    given = x if beside.channels is None else torch.cat([x, beside.channels.to(x)], dim=1)
    seen = None if beside.pictures is None else beside.pictures[pairs[0]].flatten(0, 1)
    if beside.control is not None:
        own["control_hidden_states"] = beside.control.to(dtype)
    with network_call(), frame_texts(transformer, rows):
        (flow,) = network(given.to(dtype), timestep, text[pairs[1]], seen, **own, return_dict=False)
    at = schedule.now(level.reshape(len(level), 1, -1, 1, 1))
    return to_x0(flow, x, at, "flow").to(x.dtype)


def _window_of(prompt_index: FrameIndex) -> FrameIndex:
    """Return for every frame the number of its window."""
    return torch.arange(len(prompt_index), device=prompt_index.device)[:, None].expand_as(prompt_index)


def network_dtype(transformer: WanTransformer) -> torch.dtype:
    """Return the format in which it computes; some of its other layers stay in float32."""
    return transformer.patch_embedding.weight.dtype


def flow_levels(spec: VideoSpec, num_levels: int, shift: float, spacing: Spacing) -> Schedule:
    """Return levels of a flow. Raises InputError for a spacing other than trailing."""
    check_flow_spacing(spec.name, spacing)
    return given_levels(spec.sigmas, num_levels) if spec.sigmas else flow_schedule(num_levels, shift)
