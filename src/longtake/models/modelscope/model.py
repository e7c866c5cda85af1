"""ModelScope's family of text-to-video models (UNet3DConditionModel; Wang et al., 2023, arXiv 2308.06571).

One class for every folder of that layout: the embedded models, ModelScope, ZeroScope, VideoCrafter2.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longtake.arrays import FrameIndex, FrameLevels, Latents
from longtake.attention import FrameMixer
from longtake.model import Condition, TemporalHooks, ToldFps, VideoSpec
from longtake.models.clean_frames import CleanFrames
from longtake.models.hooks import (
    frame_conditions,
    self_attention,
    self_attention_layers,
    swapped,
    text_layers,
    text_table,
)
from longtake.models.hub.configs import Configs, place_of
from longtake.models.image_model import ImageModel, frame_levels
from longtake.models.modelscope.mixing import frame_mixing, layers_over_time
from longtake.models.modelscope.videocrafter2 import fps_embedding, x0_scale
from longtake.schedule import Schedule


class UNetModel(ImageModel, CleanFrames, TemporalHooks, ToldFps):
    """A UNet over space and time, an image VAE and CLIP's text encoder.

    Infill and continuation give good pictures only where the network was trained for them: see `spec.clean_frames`.
    """

    def __init__(
        self, pipeline: Any, spec: VideoSpec, configs: Configs, embed_fps: Callable[[float], Tensor] | None = None
    ) -> None:
        """Take a pipeline; what `embed_fps` returns is added to the embedding of every timestep."""
        told_fps, use_scale = configs.extras.get("told_fps"), configs.extras.get("use_scale")
        told = ([] if told_fps is None else [f"told_fps {float(told_fps)}"]) + (["use_scale"] if use_scale else [])
        super().__init__(pipeline, spec, configs, pipeline.unet, " ".join(told))
        self.embed_fps = embed_fps
        self.x0_scale = x0_scale(len(self.alphas_cumprod)) if use_scale else None
        self.text_layers = text_layers(pipeline.unet)
        is_slow = self.device.type == "cpu" and self.dtype == torch.bfloat16
        self.slow_layers = self_attention_layers(pipeline.unet) if is_slow else []
        self.time_table = self._embed_timesteps(None if told_fps is None else float(told_fps))

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return the keys and values of prompts in all the layers that attend to text: computed once for all calls."""
        with torch.no_grad():
            text = text_table(self.text_layers, self.text_states(prompts).to(self.dtype))
        return Condition({"text": text})

    def denoise(
        self,
        x: Latents,
        level: FrameLevels | Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
    ) -> Latents:
        """Return x0; a level and a prompt for every frame."""
        level = frame_levels(level, x)
        timestep = schedule.timestep[level.cpu()].flatten().to(self.device)
        # The UNet repeats a text over the frames; its layers never read it, so the smallest will do.
        text = x.new_empty((len(x), 1, 1), dtype=self.dtype)
        with (
            torch.inference_mode(),
            self_attention(self.slow_layers),
            frame_conditions(
                self.pipeline.unet,
                self.text_layers,
                self.time_table[timestep],
                condition.rows["text"],
                prompt_index.flatten(),
            ),
        ):
            (prediction,) = self.pipeline.unet(x.to(self.dtype), timestep[:1], text, return_dict=False)
        return self.x0(prediction, x, level, schedule)

    @contextmanager
    def mixing(self, mixer: FrameMixer) -> Iterator[None]:
        """Let `mixer` mix the frames of every `denoise` inside the context."""
        over_time = {id(layer) for layer in layers_over_time(self.pipeline.unet)}
        others = [layer for layer in self.slow_layers if id(layer) not in over_time]
        with frame_mixing(self.pipeline.unet, mixer), swapped(self, "slow_layers", others):
            yield

    def told(self, fps: float) -> "UNetModel":
        """Return the model that tells its network of this rate; it shares everything else with this one."""
        # The copy has the same lock, as both run the same network.
        with self.lock:
            other = copy(self)
            other.time_table = self._embed_timesteps(fps)
        return other

    def _embed_timesteps(self, told_fps: float | None) -> Float[Tensor, "timesteps width"]:
        """Return the time embedding of every timestep of training: a lookup replaces the layer from here on."""
        unet = self.pipeline.unet
        timesteps = torch.arange(len(self.alphas_cumprod), device=self.device)
        with torch.no_grad():
            table = unet.time_embedding(unet.time_proj(timesteps).to(self.dtype))
        return table + self.embed_fps(told_fps) if self.embed_fps and told_fps is not None else table


def wrap(pipeline: Any, spec: VideoSpec, configs: Configs) -> UNetModel:
    """Make a pipeline a model. Raises CheckpointError for an embedding of frames per second of another shape."""
    if ToldFps not in spec.capabilities:
        return UNetModel(pipeline, spec, configs)
    unet = configs.parts["unet"]
    return UNetModel(pipeline, spec, configs, fps_embedding(pipeline.unet, place_of(unet), unet.variant))
