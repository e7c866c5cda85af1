"""AnimateDiff: an image model with motion modules between its layers (Guo et al., 2023, arXiv 2307.04725).

With SparseCtrl (Guo et al., 2023, arXiv 2311.16933) a control network is given the known frames and a mask of where
they are, as NUWA-XL's own network is, so it fills the gap between two frames without training for it.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers.models.embeddings import get_1d_sincos_pos_embed_from_grid
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from jaxtyping import Float, Int
from torch import Tensor, nn

from longtake.arrays import FrameIndex, FrameLevels, Latents
from longtake.attention import FrameMixer
from longtake.model import Condition, PerFrameNoise, TemporalHooks, VideoSpec
from longtake.models.hooks import Mixed, MixedAttention, RepeatedEmbedding, network_call, spread_places, swapped
from longtake.models.hub.configs import Configs
from longtake.models.image_model import ImageModel, frame_levels
from longtake.models.known_frames import KnownFrames, Mask
from longtake.schedule import Schedule


class MotionModel(ImageModel):
    """What both have: a UNet with motion modules, an image VAE and CLIP's text encoder. A prompt for every frame."""

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return the text encoder's states of prompts, (prompts, tokens, width)."""
        return Condition({"text": self.text_states(prompts).to(self.dtype)})

    def frame_texts(
        self, condition: Condition, prompt_index: FrameIndex
    ) -> Float[Tensor, "windows_x_frames tokens width"]:
        """Return a text for every frame, the frames of all windows one after the other, as the networks take them."""
        return condition.rows["text"][prompt_index.to(self.device)].flatten(0, 1)


class AnimateDiffModel(MotionModel, PerFrameNoise, TemporalHooks):
    """AnimateDiff alone. Every frame may have its own noise level."""

    def denoise(
        self,
        x: Latents,
        level: FrameLevels | Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
    ) -> Latents:
        """Return x0; a level and a prompt for every frame."""
        unet, level = self.pipeline.unet, frame_levels(level, x)
        timestep = schedule.timestep[level.cpu()].flatten().to(self.device)
        text = self.frame_texts(condition, prompt_index)
        embedding = EmbeddingPerFrame(unet.time_embedding, unet.time_proj(timestep).to(self.dtype))
        with network_call(), swapped(unet, "time_embedding", embedding):
            (predicted,) = unet(x.to(self.dtype), timestep[:1], text, return_dict=False)
        return self.x0(predicted, x, level, schedule)

    @contextmanager
    def mixing(self, mixer: FrameMixer) -> Iterator[None]:
        """Let `mixer` take over the motion modules. A frame's position counts from the start of its clip.

        A clip longer than the frames that the network was trained on has its positions spread over their range.
        """
        with ExitStack() as stack:
            for module in self.pipeline.unet.modules():
                if not isinstance(module, AnimateDiffTransformer3D):
                    continue
                stack.enter_context(swapped(module, "norm", Mixed(module.norm, mixer.normalise)))
                for name, block in list(module.transformer_blocks.named_children()):
                    placed = PlacedBlock(block, ClipPositions(mixer, self.spec.num_frames))
                    stack.enter_context(swapped(module.transformer_blocks, name, placed))
                    for layer in (block.attn1, block.attn2):
                        stack.enter_context(swapped(layer, "processor", MixedAttention(mixer)))
            yield


class SparseCtrlModel(MotionModel, KnownFrames):
    """AnimateDiff with a control network, and one noise level for a window."""

    def denoise_known(
        self,
        x: Latents,
        level: Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
        known: tuple[Latents, Mask] | None,
    ) -> Latents:
        """See KnownFrames; where nothing is known the control network is not called, as in AnimateDiff."""
        timestep = schedule.timestep[level.cpu()].to(self.device)
        text, noisy = self.frame_texts(condition, prompt_index), x.to(self.dtype)
        with torch.inference_mode():
            control = {} if known is None else self._control(noisy, timestep, text, *known)
            (predicted,) = self.pipeline.unet(noisy, timestep, text, **control, return_dict=False)
        return self.x0(predicted, x, level, schedule)

    def _control(self, x: Latents, timestep: Tensor, text: Tensor, given: Latents, mask: Mask) -> dict[str, Any]:
        """Return what the control network adds inside the UNet."""
        where = mask.to(x)[:, None, :, None, None].expand(-1, 1, -1, *x.shape[3:])
        down, middle = self.pipeline.controlnet(
            x, timestep, text, controlnet_cond=given.to(x), conditioning_mask=where, return_dict=False
        )
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}


def wrap(pipeline: Any, spec: VideoSpec, configs: Configs) -> MotionModel:
    """Make a pipeline a model."""
    if "motion_adapter" in configs.parts:
        # diffusers has put both together, on the CPU; the adapter's own weights are of no more use.
        pipeline.unet.to(pipeline.vae.device).eval().requires_grad_(False)
        pipeline.register_modules(motion_adapter=None)
    kind = SparseCtrlModel if "controlnet" in configs.parts else AnimateDiffModel
    return kind(pipeline, spec, configs, pipeline.unet)


class EmbeddingPerFrame(nn.Module):
    """Stands in for `unet.time_embedding` and embeds the timesteps of all frames in the place of the clip's own.

    It calls the layer inside the UNet's forward, where a pipeline that was offloaded has its weights.
    """

    def __init__(self, layer: nn.Module, projected: Float[Tensor, "windows_x_frames width"]) -> None:
        super().__init__()
        self.layer, self.projected = layer, projected

    def forward(self, projected: Tensor, condition: Tensor | None = None) -> RepeatedEmbedding:
        """Return an embedding per frame, whatever the timestep of the clip."""
        return RepeatedEmbedding(self.layer(self.projected))


class ClipPositions(nn.Module):
    """Stands in for the sinusoids of a motion module's block, counting from the start of each of the mixer's clips."""

    def __init__(self, mixer: FrameMixer, trained: int) -> None:
        super().__init__()
        self.mixer, self.trained = mixer, trained

    def forward(self, x: Float[Tensor, "cells frames width"]) -> Float[Tensor, "cells frames width"]:
        """Add every frame's position."""
        grid = torch.tensor(spread_places(self.mixer.places(), self.trained), dtype=torch.float64)
        sines_cosines = get_1d_sincos_pos_embed_from_grid(x.shape[-1], grid).unflatten(1, (2, -1))
        # Sine and cosine of a frequency are neighbours here.
        return x + sines_cosines.transpose(1, 2).flatten(1).to(x)


class PlacedBlock(nn.Module):
    """Stands in for a motion module's block: both its layers of attention together are what has positions."""

    def __init__(self, block: Any, positions: ClipPositions) -> None:
        super().__init__()
        self.block, self.positions = block, positions

    def forward(self, hidden_states: Float[Tensor, "cells frames width"], **unused: Any) -> Tensor:
        """Return the frames of every cell after attention and feed-forward; there is no text to look at."""
        x = self.positions.mixer.placed(self._attended, hidden_states)
        return x + self.block.ff(self.block.norm3(x))

    def _attended(self, x: Float[Tensor, "cells frames width"]) -> Float[Tensor, "cells frames width"]:
        for norm, layer in ((self.block.norm1, self.block.attn1), (self.block.norm2, self.block.attn2)):
            x = x + layer(self.positions(norm(x)))
        return x
