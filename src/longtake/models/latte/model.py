"""Latte, a transformer with blocks over space and over time in turn (Ma et al., 2024, arXiv 2401.03048).

The modules are those of diffusers; only the order in which they are called is written here, because the library's own
forward repeats one timestep and one text over the frames. Checked against it.

Shapes: B windows, F frames, P patches of a frame, D width, T tokens of text.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import LatteTransformer3DModel
from diffusers.models.embeddings import get_1d_sincos_pos_embed_from_grid
from jaxtyping import Float, Int
from torch import Tensor

from longtake.arrays import FrameIndex, FrameLevels, Latents
from longtake.attention import FrameMixer, attention
from longtake.model import Condition, LongNegative, PerFrameNoise, TemporalHooks, VideoSpec
from longtake.models.hooks import spread_places
from longtake.models.hub.configs import Configs
from longtake.models.image_model import ImageModel, frame_levels
from longtake.models.latte.spec import TEXT_TOKENS
from longtake.schedule import Schedule

Text = Float[Tensor, "windows_x_frames tokens text_width"]
Weight = Float[Tensor, "windows_x_frames tokens"]
Output = Float[Tensor, "windows out_channels frames height width"]
Positions = Float[Tensor, "frames width"]


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


def predict(
    transformer: LatteTransformer3DModel,
    x: Latents,
    timestep: Int[Tensor, "windows frames"],
    text: Text,
    weight: Weight,
    mixer: FrameMixer | None,
) -> Output:
    """Return what the network predicts.

    `text` has a row per frame, already projected; `weight` says how much a token counts, from 0 to 1.
    """
    network: Any = transformer
    num_windows, _, num_frames, height, width = x.shape
    frames = network.pos_embed(x.transpose(1, 2).flatten(0, 1))
    modulation, embedded = network.adaln_single(timestep.flatten(), hidden_dtype=frames.dtype)

    def positions() -> Positions:
        places = mixer.places() if mixer else [(i, num_frames) for i in range(num_frames)]
        return frame_positions(places, network.config.video_length, frames.shape[-1]).to(frames)

    # exp(log w) = w: a token of weight 0 is not there, one of weight 1/2 counts half.
    bias = weight[:, None].log().clamp(min=torch.finfo(weight.dtype).min)
    for i, (spatial, temporal) in enumerate(
        zip(network.transformer_blocks, network.temporal_transformer_blocks, strict=True)
    ):
        frames = spatial(frames, None, text, bias, modulation)
        sequences_BFPD = frames.unflatten(0, (num_windows, num_frames))
        if i == 0:
            sequences_BFPD = sequences_BFPD + positions()[:, None]
        frames = _over_time(temporal, sequences_BFPD, modulation, positions, mixer).flatten(0, 1)
    shift, scale = (network.scale_shift_table + embedded[:, None]).chunk(2, dim=1)
    patches = network.proj_out(network.norm_out(frames) * (1 + scale) + shift)
    side = network.config.patch_size
    pixels = patches.view(num_windows, num_frames, height // side, width // side, side, side, network.out_channels)
    return pixels.permute(0, 6, 1, 2, 4, 3, 5).reshape(num_windows, -1, num_frames, height, width)


def frame_positions(places: Sequence[tuple[int, int]], trained: int, width: int) -> Positions:
    """Return the position embedding of every frame; see `spread_places`. A clip of one frame has none."""
    grid = torch.tensor(spread_places(places, trained), dtype=torch.float64)
    table = get_1d_sincos_pos_embed_from_grid(width, grid)
    return table * torch.tensor([length > 1 for _, length in places])[:, None]


def _over_time(
    block: Any,
    frames_BFPD: Float[Tensor, "windows frames patches width"],
    modulation: Float[Tensor, "windows_x_frames six_widths"],
    positions: Callable[[], Positions],
    mixer: FrameMixer | None,
) -> Float[Tensor, "windows frames patches width"]:
    """Run a BasicTransformerBlock over the frames of each patch, modulated frame by frame (adaLN-single)."""
    num_windows, num_frames, num_patches, width = frames_BFPD.shape
    x = frames_BFPD.transpose(1, 2).flatten(0, 1)
    given = modulation.view(num_windows, 1, num_frames, 6, width) + block.scale_shift_table
    shift, scale, gate, ff_shift, ff_scale, ff_gate = (
        given.expand(-1, num_patches, -1, -1, -1).flatten(0, 1).unbind(dim=2)
    )
    if mixer is None:
        mixed = _attended(block, x, shift, scale, None)
    else:

        def layers(x: Tensor, shift: Tensor, scale: Tensor, added: Tensor) -> Tensor:
            # The position was added long before; where a window has another, the difference is added here.
            return _attended(block, x + (positions() - added), shift, scale, mixer)

        mixed = mixer.placed(layers, x, shift, scale, positions().expand_as(x))
    x = x + gate * mixed
    x = x + ff_gate * block.ff(block.norm2(x) * (1 + ff_scale) + ff_shift)
    return x.unflatten(0, (num_windows, num_patches)).transpose(1, 2)


def _attended(
    block: Any, x: Tensor, shift: Tensor, scale: Tensor, mixer: FrameMixer | None
) -> Float[Tensor, "windows_x_patches frames width"]:
    """Return what the layer of attention adds."""
    layer, hidden = block.attn1, block.norm1(x) * (1 + scale) + shift
    key, value = (project(hidden).unflatten(-1, (layer.heads, -1)) for project in (layer.to_k, layer.to_v))
    attend = mixer.attend(key, value) if mixer else lambda query: attention(query, key, value)
    return layer.to_out[0](attend(layer.to_q(hidden).unflatten(-1, (layer.heads, -1))).flatten(2))
