"""NUWA-XL's diffusion as a model: keyframes far apart, what lies between two frames, what comes after some.

Yin et al., ACL 2023, arXiv 2303.12346. The same network does all three, told by a mask what is known, and by the stride
at which level of the tree it is.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from longtake.arrays import FrameIndex, LatentFrames, Latents
from longtake.model import Condition, Strided, VideoSpec
from longtake.models.clip_text import text_states
from longtake.models.hooks import swapped
from longtake.models.hub.files import digest
from longtake.models.hub.folder import part_folders
from longtake.models.image_vae import Pixels, decode_frames, encode_frames
from longtake.models.known_frames import KnownFrames, Mask
from longtake.models.nuwa_xl.load import NuwaXlParts, load_nuwa_xl_parts
from longtake.models.nuwa_xl.spec import LAYOUT, nuwa_xl_spec
from longtake.schedule import Schedule, Spacing, discrete_schedule, to_x0


class NuwaXlModel(KnownFrames, Strided):
    """Mask temporal diffusion, an image VAE and CLIP's text encoder."""

    def __init__(self, spec: VideoSpec, parts: NuwaXlParts, digest: str) -> None:
        self.spec, self.parts, self.digest = spec, parts, digest
        weights = parts.unet.stride_embedding.weight
        self.device, self.dtype = weights.device, weights.dtype
        self.stride = 1

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return the text encoder's states of prompts, (prompts, tokens, width)."""
        states = text_states(self.parts.tokenizer, self.parts.text_encoder, prompts)
        return Condition(states.to(self.dtype))

    def schedule(self, num_levels: int, spacing: Spacing = "trailing") -> Schedule:
        """Return levels of the model's own training schedule."""
        return discrete_schedule(self.parts.alphas_cumprod, num_levels, spacing, self.parts.prediction)

    @contextmanager
    def strided(self, stride: int) -> Iterator[None]:
        """Say how far apart the frames of every window inside the context lie."""
        with swapped(self, "stride", stride):
            yield

    def denoise_known(
        self,
        x: Latents,
        level: Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
        known: Latents,
        mask: Mask,
    ) -> Latents:
        """Return x0 of windows; `known` holds clean latents where `mask` is 1, and zeros elsewhere."""
        timestep = schedule.timestep[level.cpu()].to(self.device)
        stride = torch.full_like(timestep, self.stride)
        text = condition.table[prompt_index]
        with torch.inference_mode():
            predicted = self.parts.unet(x.to(self.dtype), timestep, text, known.to(self.dtype), mask, stride)
        now = schedule.now(level[:, None, None, None, None])
        return to_x0(predicted, x, now, self.parts.prediction).to(x.dtype)

    def decode(self, latents: LatentFrames, state: Any, last: bool) -> tuple[Pixels, Any]:
        """Decode every frame by itself, a few at a time; there is nothing to remember."""
        return decode_frames(self.parts.vae, latents), None

    def encode_frames(self, frames: Pixels) -> LatentFrames:
        """Return the mean of each frame's latents, scaled to unit variance."""
        return encode_frames(self.parts.vae, frames)


def load_nuwa_xl(folder: Path, device: torch.device | str, dtype: torch.dtype) -> NuwaXlModel:
    """Load the model in a folder; see `longtake.models.nuwa_xl.spec` for what lies there.

    Raises InputError for a model of another kind, CheckpointError for missing or damaged files.
    """
    spec = nuwa_xl_spec(folder)
    parts = load_nuwa_xl_parts(folder, torch.device(device), dtype)
    return NuwaXlModel(spec, parts, digest(part_folders(folder, LAYOUT).values()))
