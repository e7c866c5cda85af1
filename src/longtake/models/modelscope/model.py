"""ModelScope's family of text-to-video models (UNet3DConditionModel; Wang et al., 2023, arXiv 2308.06571).

One class for every folder of that layout: the embedded models, ModelScope, ZeroScope, VideoCrafter2.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longtake.arrays import FrameIndex, FrameLevels, Latents
from longtake.model import Condition, FrameMixer, TemporalHooks, VideoSpec
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
from longtake.models.modelscope.videocrafter2 import embedded_fps, x0_scale
from longtake.schedule import Schedule


class UNetModel(ImageModel, CleanFrames, TemporalHooks):
    """A UNet over space and time, an image VAE and CLIP's text encoder.

    Infill and continuation give good pictures only where the network was trained for them: see `spec.clean_frames`.
    """

    def __init__(
        self,
        pipeline: Any,
        spec: VideoSpec,
        configs: Configs,
        told: str = "",
        fps_embedding: Tensor | None = None,
        use_scale: bool = False,
    ) -> None:
        """Take a pipeline; `fps_embedding` is added to the embedding of every timestep, `use_scale` is that of
        longtake.json, and `told` says both."""
        super().__init__(pipeline, spec, configs, pipeline.unet, told)
        self.fps_embedding = fps_embedding
        self.x0_scale = x0_scale(len(self.alphas_cumprod)) if use_scale else None
        self.text_layers = text_layers(pipeline.unet)
        is_slow = self.device.type == "cpu" and self.dtype == torch.bfloat16
        self.slow_layers = self_attention_layers(pipeline.unet) if is_slow else []
        self.time_table = self._embed_timesteps()

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

    def _embed_timesteps(self) -> Float[Tensor, "timesteps width"]:
        """Return the time embedding of every timestep of training: a lookup replaces the layer from here on."""
        unet = self.pipeline.unet
        timesteps = torch.arange(len(self.alphas_cumprod), device=self.device)
        with torch.no_grad():
            table = unet.time_embedding(unet.time_proj(timesteps).to(self.dtype))
        return table if self.fps_embedding is None else table + self.fps_embedding


def wrap(pipeline: Any, spec: VideoSpec, configs: Configs) -> UNetModel:
    """Make a pipeline a model. Raises CheckpointError for an embedding of frames per second of another shape."""
    told_fps, use_scale = configs.extras.get("told_fps"), bool(configs.extras.get("use_scale"))
    said = ["use_scale"] if use_scale else []
    if told_fps is None:
        return UNetModel(pipeline, spec, configs, " ".join(said), use_scale=use_scale)
    unet = configs.parts["unet"]
    embedding = embedded_fps(pipeline.unet, place_of(unet), float(told_fps), unet.variant)
    told = " ".join([f"told_fps {float(told_fps)}", *said])
    return UNetModel(pipeline, spec, configs, told, embedding, use_scale)
