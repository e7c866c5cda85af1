"""Latte, a transformer with blocks over space and over time in turn (Ma et al., 2024, arXiv 2401.03048)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from longtake.arrays import FrameIndex, FrameLevels, Latents
from longtake.attention import FrameMixer
from longtake.model import Condition, LongNegative, PerFrameNoise, TemporalHooks, VideoSpec
from longtake.models.hub.configs import Configs
from longtake.models.image_model import ImageModel, frame_levels
from longtake.models.latte.forward import predict
from longtake.schedule import Schedule

TEXT_TOKENS = 120
"""Tokens of a prompt; what is longer is cut (as in diffusers' pipeline)."""


class LatteModel(ImageModel, LongNegative, PerFrameNoise, TemporalHooks):
    """A transformer, an image VAE and T5. Every frame may have its own noise level and its own prompt."""

    def __init__(self, pipeline: Any, spec: VideoSpec, configs: Configs) -> None:
        super().__init__(pipeline, spec, configs, pipeline.transformer)
        self.mixer: FrameMixer | None = None

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return the tokens of prompts, (prompts, tokens, width), and how much each counts, 1 or 0.

        Padding does not count, but for row 0, which keeps as many tokens as the longest of the other prompts: that is
        what Latte's pipeline does, which cuts both prompts to the length of the positive one.
        """
        tokens = self._tokens(prompts)
        counts = tokens.attention_mask.clone()
        if len(prompts) > 1:
            counts[0] = counts[1:].amax(dim=0)
        return self._embedded(tokens, counts)

    def encode_negative(self, prompt: str, against: Sequence[str]) -> Condition:
        """Return its row: as many tokens count as in the longest of the others."""
        return self._embedded(self._tokens([prompt]), self._tokens(against).attention_mask.amax(dim=0, keepdim=True))

    def _tokens(self, prompts: Sequence[str]) -> Any:
        return self.pipeline.tokenizer(
            [prompt.lower().strip() for prompt in prompts],
            padding="max_length",
            max_length=TEXT_TOKENS,
            truncation=True,
            return_tensors="pt",
        ).to(self.device)

    def _embedded(self, tokens: Any, counts: Tensor) -> Condition:
        network: Any = self.pipeline.transformer
        with torch.no_grad():
            text = self.pipeline.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
            text = network.caption_projection(text.to(self.dtype))
        return Condition({"text": text, "weight": counts.to(text)})

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
        timestep = schedule.timestep[level.cpu()].to(self.device)
        rows = prompt_index.flatten().to(self.device)
        text, weight = (condition.rows[name][rows] for name in ("text", "weight"))
        with torch.inference_mode():
            output = predict(self.pipeline.transformer, x.to(self.dtype), timestep, text, weight, self.mixer)
        # The other half, if there is one, is the variance that the network has learned.
        return self.x0(output[:, : x.shape[1]], x, level, schedule)

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


def wrap(pipeline: Any, spec: VideoSpec, configs: Configs) -> LatteModel:
    """Make a pipeline a model."""
    return LatteModel(pipeline, spec, configs)
