"""ModelScope's family of text-to-video models (UNet3DConditionModel; Wang et al., 2023, arXiv 2308.06571).

One class for every folder of that layout: the embedded models, ModelScope, ZeroScope, VideoCrafter2.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longtake.arrays import FrameIndex, FrameLevels, LatentFrames, Latents
from longtake.model import Condition, FrameMixer, TemporalHooks, VideoSpec
from longtake.models.clean_frames import CleanFrames
from longtake.models.clip_text import text_states
from longtake.models.hooks import (
    frame_conditions,
    self_attention,
    self_attention_layers,
    swapped,
    text_layers,
    text_table,
)
from longtake.models.hub.files import digest
from longtake.models.hub.folder import folder_spec, part_folders, told_to_network
from longtake.models.hub.load import Parts, load_parts
from longtake.models.image_vae import Pixels, decode_frames, encode_frames
from longtake.models.modelscope.mixing import frame_mixing, layers_over_time
from longtake.schedule import Schedule, Spacing, discrete_schedule, to_x0


class UNetModel(CleanFrames, TemporalHooks):
    """A UNet over space and time, an image VAE and CLIP's text encoder.

    Infill and continuation give good pictures only where the network was trained for them: see `spec.clean_frames`.
    """

    def __init__(self, spec: VideoSpec, parts: Parts, digest: str) -> None:
        self.spec, self.parts, self.digest = spec, parts, digest
        self.device, self.dtype = parts.unet.device, parts.unet.dtype
        self.text_layers = text_layers(parts.unet)
        is_slow = self.device.type == "cpu" and self.dtype == torch.bfloat16
        self.slow_layers = self_attention_layers(parts.unet) if is_slow else []
        self.time_table = self._embed_timesteps()

    def text_states(self, prompts: Sequence[str]) -> Float[Tensor, "prompts tokens width"]:
        """Return what the text encoder makes of prompts, cut or padded to the tokenizer's length."""
        return text_states(self.parts.tokenizer, self.parts.text_encoder, prompts)

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return the keys and values of prompts in all the layers that attend to text: computed once for all calls."""
        with torch.no_grad():
            return Condition(text_table(self.text_layers, self.text_states(prompts).to(self.dtype)))

    def schedule(self, num_levels: int, spacing: Spacing = "trailing") -> Schedule:
        """Return levels of the model's own training schedule."""
        return discrete_schedule(self.parts.alphas_cumprod, num_levels, spacing, self.parts.prediction)

    def denoise(
        self,
        x: Latents,
        level: FrameLevels | Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
    ) -> Latents:
        """Return x0; a level and a prompt for every frame."""
        level = level if level.ndim == 2 else level[:, None].expand(x.shape[0], x.shape[2])
        timestep = schedule.timestep[level.cpu()].flatten().to(self.device)
        # The UNet repeats a text over the frames; its layers never read it, so the smallest will do.
        text = x.new_empty((len(x), 1, 1), dtype=self.dtype)
        with (
            torch.inference_mode(),
            self_attention(self.slow_layers),
            frame_conditions(
                self.parts.unet,
                self.text_layers,
                self.time_table[timestep],
                condition.table,
                prompt_index.flatten(),
            ),
        ):
            (prediction,) = self.parts.unet(x.to(self.dtype), timestep[:1], text, return_dict=False)
        x0 = to_x0(prediction, x, schedule.now(level[:, None, :, None, None]), self.parts.prediction)
        return x0.to(x.dtype)

    def decode(self, latents: LatentFrames, state: Any, last: bool) -> tuple[Pixels, Any]:
        """Decode every frame by itself, a few at a time; there is nothing to remember."""
        return decode_frames(self.parts.vae, latents), None

    def encode_frames(self, frames: Pixels) -> LatentFrames:
        """Return the mean of each frame's latents, scaled to unit variance."""
        return encode_frames(self.parts.vae, frames)

    @contextmanager
    def mixing(self, mixer: FrameMixer) -> Iterator[None]:
        """Let `mixer` mix the frames of every `denoise` inside the context."""
        over_time = {id(layer) for layer in layers_over_time(self.parts.unet)}
        others = [layer for layer in self.slow_layers if id(layer) not in over_time]
        with frame_mixing(self.parts.unet, mixer), swapped(self, "slow_layers", others):
            yield

    def _embed_timesteps(self) -> Float[Tensor, "timesteps width"]:
        """Return the time embedding of every timestep of training: a lookup replaces the layer from here on."""
        unet = self.parts.unet
        timesteps = torch.arange(len(self.parts.alphas_cumprod), device=self.device)
        with torch.no_grad():
            table = unet.time_embedding(unet.time_proj(timesteps).to(self.dtype))
        return table if self.parts.fps_embedding is None else table + self.parts.fps_embedding


def load_unet(folder: Path, device: torch.device | str, dtype: torch.dtype) -> UNetModel:
    """Load the model in a folder of the hub's layout.

    Raises InputError for a model of another kind, CheckpointError for missing or damaged files.
    """
    spec = folder_spec(folder)
    parts = load_parts(folder, torch.device(device), dtype)
    return UNetModel(spec, parts, digest(part_folders(folder).values(), told_to_network(folder)))
