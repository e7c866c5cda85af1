"""ModelScope's family of text-to-video models (UNet3DConditionModel; Wang et al., 2023, arXiv 2308.06571).

One class for every folder of that layout: the embedded models, ModelScope, ZeroScope, VideoCrafter2. The last is told
of frames per second, whose embedding is added to that of the timestep, after its layers; and its training noised
pictures that were scaled down,  x = sqrt(alpha_bar) scale x0 + sqrt(1 - alpha_bar) eps  (`use_scale` in the authors'
config; Chen et al., 2024, arXiv 2401.09047).
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet3DConditionModel
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import TimestepEmbedding
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor, nn

from longtake.arrays import FrameIndex, FrameLevels, Latents
from longtake.attention import FrameMixer
from longtake.errors import CheckpointError
from longtake.model import Condition, TemporalHooks, ToldFps, VideoSpec
from longtake.models.hooks import (
    Mixed,
    MixedAttention,
    frame_conditions,
    network_call,
    self_attention,
    self_attention_layers,
    swapped,
    text_layers,
    text_table,
)
from longtake.models.hub.configs import Configs, stem
from longtake.models.hub.files import weight_files
from longtake.models.image_model import ImageModel, codec_in_cells, frame_levels
from longtake.models.known_frames import CleanFrames
from longtake.models.modelscope.spec import FPS_EMBEDDING, cell_side
from longtake.schedule import Schedule, Table

REACH = 4
"""Frames to each side that an output of TemporalConvLayer sees: four convolutions over 3 frames."""

SCALE, SCALE_STEPS = 0.7, 400
"""The least scale of x0, and after how many timesteps it is reached."""


class UNetModel(ImageModel, CleanFrames, TemporalHooks, ToldFps):
    """A UNet over space and time, an image VAE and CLIP's text encoder.

    Infill and continuation give good pictures only where the network was trained for them: see `spec.clean_frames`.
    """

    def __init__(
        self, pipeline: Any, spec: VideoSpec, configs: Configs, fps_layers: TimestepEmbedding | None = None
    ) -> None:
        """Take a pipeline; what `fps_layers` say of frames per second is added to the embedding of every timestep."""
        told_fps, use_scale = configs.extras.get("told_fps"), configs.extras.get("use_scale")
        super().__init__(pipeline, spec, configs, pipeline.unet)
        cell = cell_side(pipeline.unet.config.in_channels, pipeline.vae.config.latent_channels)
        if cell > 1:
            self.codec = codec_in_cells(pipeline.vae, cell)
        self.fps_layers = fps_layers
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
            network_call(),
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
            if told_fps is None:
                return table
            assert self.fps_layers is not None, "a model that is told of frames per second has layers for them"
            return table + self.fps_layers(unet.time_proj(torch.tensor([told_fps], device=self.device)).to(self.dtype))


def wrap(pipeline: Any, spec: VideoSpec, configs: Configs) -> UNetModel:
    """Make a pipeline a model. Raises CheckpointError for an embedding of frames per second of another shape."""
    if ToldFps not in spec.capabilities:
        return UNetModel(pipeline, spec, configs)
    unet = configs.parts["unet"]
    if unet.folder is None:
        # Of a model that is only counted, without its weights.
        return UNetModel(pipeline, spec, configs, new_fps_layers(pipeline.unet))
    return UNetModel(pipeline, spec, configs, read_fps_layers(pipeline.unet, unet.folder, unet.variant))


def new_fps_layers(unet: UNet3DConditionModel) -> TimestepEmbedding:
    """Return layers that embed frames per second, of the sizes of the time embedding."""
    network: Any = unet
    layers = network.time_embedding
    return TimestepEmbedding(layers.linear_1.in_features, layers.linear_1.out_features, network.config.act_fn)


def read_fps_layers(unet: UNet3DConditionModel, place: Path, wanted: str | None = None) -> TimestepEmbedding:
    """Return the layers that embed frames per second, from among the weights of the UNet in the folder `place`.

    `wanted` is the variant of the files.

    Raises CheckpointError for layers of other sizes than those of the time embedding.
    """
    embedding, tensors = new_fps_layers(unet), {}
    for file in weight_files(place, stem("unet"), wanted):
        with safe_open(file, framework="pt") as opened:
            names = set(opened.keys()) & set(FPS_EMBEDDING)
            tensors |= {name.removeprefix("fps_embedding."): opened.get_tensor(name) for name in names}
    for name, parameter in embedding.named_parameters():
        if tensors[name].shape != parameter.shape:
            raise CheckpointError(f"{place}: fps_embedding.{name} has another shape than its like in time_embedding")
    embedding.load_state_dict(tensors)
    return embedding.to(unet.device, unet.dtype)


def x0_scale(num_timesteps: int) -> Table:
    """Return what training multiplied x0 by at every timestep: 1 falling to 0.7 over 400 of them, then 0.7."""
    falling = torch.linspace(1, SCALE, SCALE_STEPS, dtype=torch.float64)
    return torch.cat([falling, torch.full((num_timesteps,), SCALE, dtype=torch.float64)])[:num_timesteps]


class MixedBlock(nn.Module):
    """Stands in for TemporalConvLayer, which is given (windows x frames, channels, height, width)."""

    def __init__(self, layer: TemporalConvLayer, mixer: FrameMixer) -> None:
        super().__init__()
        self.layer, self.mixer = layer, mixer

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Return the frames after the convolutions."""
        mixed = self.mixer.block(self._run, _with_time(x, num_frames), REACH)
        return _without_time(mixed)

    def _run(self, x: Tensor) -> Tensor:
        return _with_time(self.layer(_without_time(x), num_frames=x.shape[2]), x.shape[2])


def layers_over_time(unet: UNet3DConditionModel) -> list[Attention]:
    """Return the layers in which the frames of a cell attend to each other."""
    owners = [module for module in unet.modules() if isinstance(module, TransformerTemporalModel)]
    return [module for owner in owners for module in owner.modules() if isinstance(module, Attention)]


@contextmanager
def frame_mixing(unet: UNet3DConditionModel, mixer: FrameMixer) -> Iterator[None]:
    """Let `mixer` mix the frames of every forward inside the context."""
    with ExitStack() as stack:
        for layer in layers_over_time(unet):
            stack.enter_context(swapped(layer, "processor", MixedAttention(mixer)))
        for owner in list(unet.modules()):
            if isinstance(owner, TransformerTemporalModel):
                stack.enter_context(swapped(owner, "norm", Mixed(owner.norm, mixer.normalise)))
            elif isinstance(owner, TemporalConvLayer):
                _mix_stages(owner, mixer, stack)
            else:
                for name, child in list(owner.named_children()):
                    if isinstance(child, TemporalConvLayer):
                        stack.enter_context(swapped(owner, name, MixedBlock(child, mixer)))
        yield


def _mix_stages(layer: TemporalConvLayer, mixer: FrameMixer, stack: ExitStack) -> None:
    """Let the mixer take the norms and the convolutions inside a block."""
    for stage in (layer.conv1, layer.conv2, layer.conv3, layer.conv4):
        for name, child in list(stage.named_children()):
            if isinstance(child, nn.GroupNorm):
                stack.enter_context(swapped(stage, name, Mixed(child, mixer.normalise)))
            elif isinstance(child, nn.Conv3d):
                stack.enter_context(swapped(stage, name, Mixed(child, mixer.convolve)))


def _with_time(x: Tensor, num_frames: int) -> Tensor:
    return x.unflatten(0, (-1, num_frames)).transpose(1, 2)


def _without_time(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(0, 1)
