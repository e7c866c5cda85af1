"""Latte, a transformer with blocks over space and over time in turn (Ma et al., 2024, arXiv 2401.03048)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, LatteTransformer3DModel
from jaxtyping import Int
from torch import Tensor
from transformers import T5EncoderModel, T5Tokenizer

from longtake.arrays import FrameIndex, FrameLevels, LatentFrames, Latents
from longtake.model import Condition, FrameMixer, PerFrameNoise, TemporalHooks, VideoSpec
from longtake.models.hub.files import digest
from longtake.models.hub.folder import part_folders
from longtake.models.hub.load import (
    image_decoder,
    library_part,
    noise_levels,
    one_line_errors,
    text_encoder,
)
from longtake.models.image_vae import Pixels, decode_frames, encode_frames
from longtake.models.latte.forward import predict
from longtake.models.latte.spec import LATTE, latte_spec
from longtake.schedule import Prediction, Schedule, Spacing, Table, discrete_schedule, to_x0

TEXT_TOKENS = 120
"""Tokens of a prompt; what is longer is cut (as in diffusers' pipeline)."""


@dataclass(frozen=True, kw_only=True)
class LatteParts:
    """What Latte consists of, ready to run."""

    transformer: LatteTransformer3DModel
    vae: AutoencoderKL
    text_encoder: T5EncoderModel
    tokenizer: T5Tokenizer
    alphas_cumprod: Table
    """Of the training schedule, cleanest first, float64."""
    prediction: Prediction


class LatteModel(PerFrameNoise, TemporalHooks):
    """A transformer, an image VAE and T5. Every frame may have its own noise level and its own prompt."""

    def __init__(self, spec: VideoSpec, parts: LatteParts, digest: str) -> None:
        self.spec, self.parts, self.digest = spec, parts, digest
        self.device, self.dtype = parts.transformer.device, parts.transformer.dtype
        self.mixer: FrameMixer | None = None

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return a row per prompt: (tokens, width + 1), each token with how much it counts, 1 or 0.

        Padding does not count, but for row 0, which keeps as many tokens as the longest of the other prompts: that is
        what Latte's pipeline does, which cuts both prompts to the length of the positive one.
        """
        tokens = self.parts.tokenizer(
            [prompt.lower().strip() for prompt in prompts],
            padding="max_length",
            max_length=TEXT_TOKENS,
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        counts = tokens.attention_mask.clone()
        if len(prompts) > 1:
            counts[0] = counts[1:].amax(dim=0)
        network: Any = self.parts.transformer
        with torch.no_grad():
            text = self.parts.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
            text = network.caption_projection(text.to(self.dtype))
        return Condition(torch.cat([text, counts[..., None].to(text)], dim=-1))

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
        timestep = schedule.timestep[level.cpu()].to(self.device)
        rows = condition.table[prompt_index.flatten().to(condition.table.device)]
        with torch.inference_mode():
            output = predict(self.parts.transformer, x.to(self.dtype), timestep, rows, self.mixer)
        # The other half, if there is one, is the variance that the network has learned.
        prediction = output[:, : x.shape[1]]
        x0 = to_x0(prediction, x, schedule.now(level[:, None, :, None, None]), self.parts.prediction)
        return x0.to(x.dtype)

    @contextmanager
    def mixing(self, mixer: FrameMixer) -> Iterator[None]:
        """Let `mixer` attend over time. A frame's position counts from the start of its clip.

        A clip longer than the frames that the network was trained on has its positions spread over their range.
        """
        outer, self.mixer = self.mixer, mixer
        try:
            yield
        finally:
            self.mixer = outer

    def decode(self, latents: LatentFrames, state: Any, last: bool) -> tuple[Pixels, Any]:
        """Decode every frame by itself; there is nothing to remember."""
        return decode_frames(self.parts.vae, latents), None

    def encode_frames(self, frames: Pixels) -> LatentFrames:
        """Return the mean of each frame's latents, scaled to unit variance."""
        return encode_frames(self.parts.vae, frames)


def load_latte(folder: Path, device: torch.device | str, dtype: torch.dtype) -> LatteModel:
    """Load the model in a folder of the hub's layout; T5 in bfloat16 where `dtype` is float16, which it overflows.

    Raises InputError for a model of another kind, CheckpointError for missing or damaged files.
    """
    spec, places, device = latte_spec(folder), part_folders(folder, LATTE), torch.device(device)
    alphas_cumprod, prediction = noise_levels(places["scheduler"])
    with one_line_errors(places["tokenizer"]):
        tokenizer = T5Tokenizer.from_pretrained(places["tokenizer"], local_files_only=True)
    text_dtype = torch.bfloat16 if dtype == torch.float16 else dtype
    parts = LatteParts(
        transformer=library_part(LatteTransformer3DModel, places["transformer"], "transformer", dtype).to(device),
        vae=image_decoder(places["vae"], device, dtype),
        text_encoder=text_encoder(T5EncoderModel, places["text_encoder"], text_dtype).to(device),
        tokenizer=tokenizer,
        alphas_cumprod=alphas_cumprod,
        prediction=prediction,
    )
    return LatteModel(spec, parts, digest(places.values()))
