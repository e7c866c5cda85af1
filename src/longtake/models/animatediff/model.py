"""AnimateDiff with SparseCtrl: an image model with motion modules, told of known frames by a control network.

Guo et al., 2023, arXiv 2307.04725 and 2311.16933. The control network is given the known frames and a mask of where
they are, as NUWA-XL's own network is, so it fills the gap between two frames without training for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, SparseControlNetModel, UNetMotionModel
from jaxtyping import Int
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from longtake.arrays import FrameIndex, LatentFrames, Latents
from longtake.model import Condition, VideoSpec
from longtake.models.animatediff.spec import SPARSECTRL, sparsectrl_spec
from longtake.models.clip_text import text_states
from longtake.models.hub.files import digest
from longtake.models.hub.folder import part_folders
from longtake.models.hub.load import image_decoder, library_part, noise_levels, one_line_errors, text_encoder
from longtake.models.image_vae import Pixels, decode_frames, encode_frames
from longtake.models.known_frames import KnownFrames, Mask
from longtake.schedule import Prediction, Schedule, Spacing, Table, discrete_schedule, to_x0


@dataclass(frozen=True, kw_only=True)
class SparseCtrlParts:
    """What AnimateDiff with SparseCtrl consists of, ready to run."""

    unet: UNetMotionModel
    controlnet: SparseControlNetModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    alphas_cumprod: Table
    """Of the training schedule, cleanest first, float64."""
    prediction: Prediction


class SparseCtrlModel(KnownFrames):
    """A UNet with motion modules, a control network, an image VAE and CLIP's text encoder. A prompt for every frame."""

    def __init__(self, spec: VideoSpec, parts: SparseCtrlParts, digest: str) -> None:
        self.spec, self.parts, self.digest = spec, parts, digest
        self.device, self.dtype = parts.unet.device, parts.unet.dtype

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return the text encoder's states of prompts, (prompts, tokens, width)."""
        return Condition(text_states(self.parts.tokenizer, self.parts.text_encoder, prompts).to(self.dtype))

    def schedule(self, num_levels: int, spacing: Spacing = "trailing") -> Schedule:
        """Return levels of the model's own training schedule."""
        return discrete_schedule(self.parts.alphas_cumprod, num_levels, spacing, self.parts.prediction)

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
        # The library's networks take a text for every frame, the frames of all windows one after the other.
        text = condition.table[prompt_index.to(condition.table.device)].flatten(0, 1)
        noisy = x.to(self.dtype)
        with torch.inference_mode():
            control = self._control(noisy, timestep, text, known.to(self.dtype), mask.to(self.dtype))
            (predicted,) = self.parts.unet(noisy, timestep, text, **control, return_dict=False)
        return to_x0(predicted, x, schedule.now(level[:, None, None, None, None]), self.parts.prediction).to(x.dtype)

    def decode(self, latents: LatentFrames, state: Any, last: bool) -> tuple[Pixels, Any]:
        """Decode every frame by itself, a few at a time; there is nothing to remember."""
        return decode_frames(self.parts.vae, latents), None

    def encode_frames(self, frames: Pixels) -> LatentFrames:
        """Return the mean of each frame's latents, scaled to unit variance."""
        return encode_frames(self.parts.vae, frames)

    def _control(self, x: Latents, timestep: Tensor, text: Tensor, known: Latents, mask: Mask) -> dict[str, Any]:
        """Return what the control network adds inside the UNet; nothing where nothing is known, as in AnimateDiff."""
        if not mask.any():
            return {}
        where = mask[:, None, :, None, None].expand(-1, 1, -1, *x.shape[3:])
        down, middle = self.parts.controlnet(
            x, timestep, text, controlnet_cond=known, conditioning_mask=where, return_dict=False
        )
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}


def load_sparsectrl(folder: Path, device: torch.device | str, dtype: torch.dtype) -> SparseCtrlModel:
    """Load the model in a folder of the hub's layout, the text encoder in float32 whatever `dtype`.

    Raises InputError for a model of another kind, CheckpointError for missing or damaged files.
    """
    spec, places, device = sparsectrl_spec(folder), part_folders(folder, SPARSECTRL), torch.device(device)
    alphas_cumprod, prediction = noise_levels(places["scheduler"])
    with one_line_errors(places["tokenizer"]):
        tokenizer = CLIPTokenizer.from_pretrained(places["tokenizer"], local_files_only=True)
    parts = SparseCtrlParts(
        unet=library_part(UNetMotionModel, places["unet"], "unet", dtype).to(device),
        controlnet=library_part(SparseControlNetModel, places["controlnet"], "controlnet", dtype).to(device),
        vae=image_decoder(places["vae"], device, dtype),
        text_encoder=text_encoder(CLIPTextModel, places["text_encoder"], torch.float32).to(device),
        tokenizer=tokenizer,
        alphas_cumprod=alphas_cumprod,
        prediction=prediction,
    )
    return SparseCtrlModel(spec, parts, digest(places.values()))
