"""Models of the Wan family (Wan Team, 2025, arXiv 2503.20314), by what their transformers are given beside the noise.

What they share is everything but a call of the network: transformers that attend over the tokens of all frames at once,
a causal video autoencoder (4 pixel frames a latent frame, the first one 1) and the text encoder UMT5.
"""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, unpatchify
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from longtake.arrays import FrameIndex, FrameLevels, LatentFrames, Latents
from longtake.attention import FrameMixer
from longtake.model import Condition, Continuation, Infill, Known, PerFrameNoise, TemporalHooks, VideoModel, VideoSpec
from longtake.models.hub.configs import Configs
from longtake.models.hub.load import where_run
from longtake.models.hub.offload import HOST
from longtake.models.known_frames import CleanFrames, LastShown, check_stretch, whole_window
from longtake.models.tiling import in_tiles
from longtake.models.wan.network import Beside, Experts, flow_levels, network_dtype
from longtake.models.wan.spec import TEXT_TOKENS, boundary, flow_shift, kind_of
from longtake.schedule import Schedule, Spacing

# Pixels and latents differ in size here, so `arrays.Frames` and `arrays.LatentFrames` cannot stand in one signature.
Pixels = Float[Tensor, "pixel_frames 3 pixel_height pixel_width"]
WindowPixels = Float[Tensor, "windows pixel_frames 3 pixel_height pixel_width"]
GREY = 0.5
"""Of pixels where nothing is known."""


class WanBase(VideoModel):
    """A pipeline of which the transformers predict the flow from picture to noise; how they are called is a model's."""

    def __init__(self, pipeline: Any, spec: VideoSpec, configs: Configs) -> None:
        self.pipeline, self.spec, self.digest = pipeline, spec, configs.digest()
        self.shift, self.experts = flow_shift(configs), Experts(pipeline, boundary(configs))
        self.device, _ = where_run(pipeline, pipeline.transformer)
        self.dtype = network_dtype(pipeline.transformer)
        config: Any = pipeline.vae.config
        shape = (-1, 1, 1, 1)
        self.latents_mean = torch.tensor(config.latents_mean, device=self.device).view(shape)
        self.latents_std = torch.tensor(config.latents_std, device=self.device).view(shape)

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return the text encoder's states of prompts, zero after each prompt's end, as the stock pipeline has them."""
        given: Any = self.pipeline.tokenizer(
            [prompt_clean(prompt) for prompt in prompts],
            padding="max_length",
            max_length=TEXT_TOKENS,
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        mask = given.attention_mask.to(self.device)
        with torch.inference_mode():
            states = self.pipeline.text_encoder(given.input_ids.to(self.device), mask).last_hidden_state
        return Condition({"text": states.to(self.dtype) * mask[..., None].to(self.dtype)})

    def schedule(self, num_levels: int, spacing: Spacing = "trailing") -> Schedule:
        """Return levels of a flow: with the model's shift, or those that it was distilled to, and what lies between.

        Raises InputError for a spacing other than trailing.
        """
        return flow_levels(self.spec, num_levels, self.shift, spacing)

    def decode(self, latents: LatentFrames, state: Any, last: bool) -> tuple[Pixels, Any]:
        """Decode frame after frame; `state` lists what every causal convolution of the decoder remembers of earlier
        ones. Where parts take turns on the device, it is there for its own turn alone."""
        if self.spec.decoder.tiles:
            return in_tiles(self._decoded, self.spec, latents, state, last)
        return self._decoded(latents, state, last)

    def _decoded(self, latents: LatentFrames, state: Any, last: bool) -> tuple[Pixels, Any]:
        vae: Any = self.pipeline.vae
        memory = state or [None for module in vae.decoder.modules() if isinstance(module, WanCausalConv3d)]
        if self.takes_turns:
            memory = _moved(memory, self.device)
        scaled = (latents.to(self.device, vae.dtype) * self.latents_std + self.latents_mean)[None]
        decoded: list[Tensor] = []
        with torch.inference_mode():
            # Each by itself from here on: then the same numbers are computed however the stream is cut.
            for frame in scaled.split(1, dim=2):
                z, is_first = vae.post_quant_conv(frame), state is None and not decoded
                decoded.append(vae.decoder(z, feat_cache=memory, feat_idx=[0], first_chunk=is_first))
        pixels = torch.cat(decoded, dim=2)
        if vae.config.patch_size is not None:
            pixels = unpatchify(pixels, vae.config.patch_size)
        if self.takes_turns:
            memory = _moved(memory, HOST)
        return (pixels[0].transpose(0, 1).float() / 2 + 0.5).clamp(0, 1), memory

    def encode_frames(self, frames: Pixels) -> LatentFrames:
        """Return the mean of the latents of a whole stretch, scaled to unit variance.

        Raises InputError for a number of frames other than 1, 5, 9, ...
        """
        vae: Any = self.pipeline.vae
        check_stretch(self.spec, len(frames))
        pixels = (frames * 2 - 1).to(self.device, vae.dtype).transpose(0, 1)[None]
        with torch.inference_mode():
            mean = vae.encode(pixels).latent_dist.mode()[0].float()
        return (mean - self.latents_mean) / self.latents_std


def _moved(memory: Sequence[Any], device: torch.device) -> list[Any]:
    """Return what convolutions remember, on a device; some have a mark in place of numbers."""
    return [kept.to(device) if isinstance(kept, Tensor) else kept for kept in memory]


class WanModel(WanBase, CleanFrames, TemporalHooks):
    """Text to video: nothing beside the noise.

    Infill and continuation give good pictures only where the network was trained for them: see its spec.
    """

    def denoise(
        self,
        x: Latents,
        level: FrameLevels | Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
    ) -> Latents:
        """Return x0; a level a window or a frame, a prompt for every frame."""
        return self.experts.x0(x, level, schedule, condition.rows["text"], prompt_index)

    def mixing(self, mixer: FrameMixer) -> AbstractContextManager[None]:
        """Let `mixer` bring the tokens of all frames together in every layer, inside the context.

        Frames farther apart than those of one call of the network count as its first and last.
        """
        return self.experts.mixing(mixer, self.spec.num_frames - 1)


class WanShown(WanBase, Infill, Continuation):
    """A network that is shown known frames beside a window that has all frames noisy, as it was in training."""

    @cached_property
    def last_shown(self) -> LastShown[Beside]:
        """What goes beside the windows of the last call."""
        return LastShown()

    @abstractmethod
    def show(self, known: Known | None, num_frames: int) -> Beside:
        """Return what goes beside windows of so many latent frames of which these pixel frames are known."""

    def beside(self, known: Known | None, x: Latents) -> Beside:
        """Return what goes beside windows x, that of the last call if it is the same."""
        shown = self.last_shown.of(known, x.shape[2], lambda: self.show(known, x.shape[2]))
        return shown if known is not None else shown.of([0] * len(x))

    def denoise(
        self,
        x: Latents,
        level: FrameLevels | Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
    ) -> Latents:
        """Return x0 of windows of which nothing is known; a level a window, or a frame where the network takes that."""
        beside = self.beside(None, x)
        return self.experts.x0(x, level, schedule, condition.rows["text"], prompt_index, beside)

    def denoise_between(
        self,
        x: Latents,
        level: Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
        known: Known,
    ) -> Latents:
        """Return x0 of windows with known pixel frames, noisy ones in x like all others."""
        beside = self.beside(known, x)
        return self.experts.x0(x, level, schedule, condition.rows["text"], prompt_index, beside)

    def denoise_after(
        self,
        x: Latents,
        level: Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
        known: Known,
    ) -> Latents:
        """Return x0 of the frames x that follow known ones, which begin the window."""
        x, prompts = whole_window(x, level, schedule, prompt_index, known)
        beside = self.beside(known, x)
        x0 = self.experts.x0(x, level, schedule, condition.rows["text"], prompts, beside)
        return x0[:, :, known.latents.shape[2] :]


class WanFromPictures(WanShown, PerFrameNoise):
    """Picture to video: known frames in channels of their own, and in Wan2.1 what CLIP sees in one of them or two."""

    def show(self, known: Known | None, num_frames: int) -> Beside:
        """Return channels beside those of the noise; see `picture_channels`."""
        return picture_channels(self, known, num_frames)


class WanVace(WanShown):
    """VACE (Jiang et al., 2025, arXiv 2503.07598): known frames through blocks of their own beside the network's."""

    def show(self, known: Known | None, num_frames: int) -> Beside:
        """Return what steers the network; see `vace_control`."""
        return vace_control(self, known, num_frames)


def picture_channels(model: WanBase, known: Known | None, num_frames: int) -> Beside:
    """Return what a picture-to-video network is given: a mask, 1 where pixel frames are known, these among grey ones,
    and what CLIP sees."""
    frames, is_known = grey_window(model, known, num_frames)
    # The first frame of the video has a latent of its own, whose mask has room for all the others' frames.
    first = is_known[:1].repeat(model.spec.timing.stride)
    mask = torch.cat([first, is_known[1:]]).view(num_frames, -1).T[None]
    latents = encoded(model, frames)
    spread = mask[..., None, None].to(latents).expand(len(latents), -1, -1, *latents.shape[3:])
    return Beside(channels=torch.cat([spread, latents], dim=1), pictures=_seen(model, frames))


def vace_control(model: WanBase, known: Known | None, num_frames: int) -> Beside:
    """Return what VACE is given: known frames among grey ones, nothing but grey for those to make anew, and a mask, 1
    where a frame is to be made, a channel for every pixel of a latent's cell."""
    frames, is_known = grey_window(model, known, num_frames)
    kept = encoded(model, frames)
    grey = encoded(model, torch.full_like(frames[:1], GREY)).expand_as(kept)
    # The stock pipeline asks one pixel frame of every latent, in the middle of those that share it out evenly.
    wanted = functional.interpolate((~is_known).to(kept)[None, None], size=num_frames, mode="nearest-exact")
    cell = (frames.shape[3] // kept.shape[3]) ** 2
    mask = wanted[..., None, None].expand(len(kept), cell, -1, *kept.shape[3:])
    return Beside(control=torch.cat([kept, grey, mask], dim=1))


def _seen(model: WanBase, frames: WindowPixels) -> Tensor | None:
    """Return what CLIP sees in the first frames of windows, or in both ends, (windows, pictures, tokens, width); None
    without CLIP."""
    pipeline, config = model.pipeline, model.pipeline.transformer.config
    if config.image_dim is None:
        return None
    ends = [0, -1] if config.pos_embed_seq_len is not None else [0]
    pictures = frames[:, ends].flatten(0, 1).mul(255).round().to(torch.uint8).cpu()
    given: Any = pipeline.image_processor(images=list(pictures), return_tensors="pt")
    with torch.inference_mode():
        states = pipeline.image_encoder(given.pixel_values.to(model.device), output_hidden_states=True)
    return states.hidden_states[-2].to(model.dtype).unflatten(0, (len(frames), -1))


def grey_window(model: WanBase, known: Known | None, num_frames: int) -> tuple[WindowPixels, Tensor]:
    """Return the pixels of windows of so many latent frames, grey where they are not known, and for every pixel frame
    whether it is known. Known frames without places are the first ones."""
    spec = model.spec
    length = spec.timing.pixel_frames(num_frames)
    is_known = torch.zeros(length, dtype=torch.bool, device=model.device)
    if known is None:
        return torch.full((1, length, 3, spec.height, spec.width), GREY, device=model.device), is_known
    assert known.pixels is not None
    places: Sequence[int] = list(known.places) or range(known.pixels.shape[1])
    frames = torch.full((len(known.pixels), length, 3, spec.height, spec.width), GREY, device=model.device)
    frames[:, places], is_known[list(places)] = known.pixels.to(frames), True
    return frames, is_known


def encoded(model: WanBase, frames: WindowPixels) -> Latents:
    """Return the latents of windows of pixels."""
    return torch.stack([model.encode_frames(window) for window in frames])


MODELS: dict[str, type[WanModel] | type[WanFromPictures] | type[WanVace]] = {
    "text": WanModel,
    "pictures": WanFromPictures,
    "vace": WanVace,
}


def wrap(pipeline: Any, spec: VideoSpec, configs: Configs) -> WanBase:
    """Make a pipeline a model."""
    return MODELS[kind_of(configs)](pipeline, spec, configs)
