"""Mask temporal diffusion: an image UNet that denoises whole clips, in view of the frames that are known.

Yin et al., *NUWA-XL: Diffusion over Diffusion for eXtremely Long Video Generation*, ACL 2023, arXiv 2303.12346, section
3.2. At the start it is the image UNet, frame by frame, whatever is known. Beyond the paper, the network is told how far
apart the frames of a clip lie, so that one set of weights serves all levels of the tree.
"""

from math import pi
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import silu

from longtake.arrays import Latents
from longtake.models.known_frames import Mask
from longtake.models.nuwa_xl.image_unet import Block, blocks, check_image_unet, run_image_unet
from longtake.models.nuwa_xl.over_time import TimeAttention, TimeConvolution
from longtake.models.nuwa_xl.spec import MtdConfig

STRIDE_WAVES = 8
"""Sines, and cosines, of a stride."""

FrameTexts = Float[Tensor, "windows frames tokens textwidth"]


class ConditionPyramid(nn.Module):
    """Known frames at every scale of the UNet, by a cascade of convolutions of stride 2."""

    def __init__(self, latent_channels: int, channels: int, num_scales: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(latent_channels, channels, 3, padding=1)
        halvings = (nn.Conv2d(channels, channels, 3, stride=2, padding=1) for _ in range(num_scales - 1))
        self.halvings = nn.ModuleList(halvings)

    def forward(self, known_FCHW: Tensor) -> list[Tensor]:
        """Return features of all frames, finest first."""
        scales = [silu(self.first(known_FCHW))]
        for halve in self.halvings:
            scales.append(silu(halve(scales[-1])))
        return scales


class Film(nn.Module):
    """h = w_c h + b_c + h  of the known frames, then  h = w_m h + b_m + h  of the mask (section 3.2)."""

    def __init__(self, channels: int, condition_channels: int) -> None:
        super().__init__()
        self.from_frames = _zero(nn.Conv2d(condition_channels, 2 * channels, 1))
        # The mask is the same all over a frame: one cell of it is enough.
        self.from_mask = _zero(nn.Conv2d(1, 2 * channels, 1))

    def forward(self, x_FCHW: Tensor, features_FDHW: Tensor, mask_F: Tensor) -> Tensor:
        """Return features of frames, changed by what is known at this scale and by which frames are known (1)."""
        for change in (self.from_frames(features_FDHW), self.from_mask(mask_F[:, None, None, None])):
            scale, shift = change.chunk(2, dim=1)
            x_FCHW = scale * x_FCHW + shift + x_FCHW
        return x_FCHW


class BlockOverTime(nn.Module):
    """What a block of the image UNet gains: a convolution over time, FiLM where it is told, attention over time."""

    def __init__(self, block: Block, config: MtdConfig) -> None:
        super().__init__()
        is_told = (config.multi_scale or block.scale == 0) and (config.symmetric or block.upward)
        self.scale = block.scale
        self.convolution = TimeConvolution(block.channels)
        self.film = Film(block.channels, config.condition_channels) if is_told else None
        self.attention = TimeAttention(block.channels, block.heads, config.frames, mlp=True)


class MaskTemporalUnet(nn.Module):
    """The UNet of NUWA-XL's global and local diffusions."""

    def __init__(self, image: UNet2DConditionModel, config: MtdConfig) -> None:
        """Teach `image` about time; its weights become part of this network, in place.

        Raises InputError for an image UNet that is built in another way than Stable Diffusion's.
        """
        super().__init__()
        check_image_unet(image)
        self.config, self.image = config, image
        found, settings = blocks(image), image.config
        self.over_time = nn.ModuleList(BlockOverTime(block, config) for block in found)
        num_scales = len(image.down_blocks) if config.multi_scale else 1
        self.known = ConditionPyramid(_number(settings, "in_channels"), config.condition_channels, num_scales)
        self.stride_embedding = nn.Linear(2 * STRIDE_WAVES, found[0].residual.time_emb_proj.in_features)  # pyright: ignore
        for parameter in self.stride_embedding.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self,
        x: Latents,
        timestep: Int[Tensor, "windows"],
        text: FrameTexts,
        known: Latents,
        mask: Mask,
        stride: Int[Tensor, "windows"],
    ) -> Latents:
        """Return what the UNet predicts of noisy clips.

        Every frame has its text; `known` holds clean latents where `mask` is 1, and zeros elsewhere; `stride` is how
        many frames of the video lie from one frame of a clip to the next.
        """
        num_frames = x.shape[2]
        embedding = self._embed(timestep, stride, x.dtype).repeat_interleave(num_frames, dim=0)
        features = self.known(_frames(known.to(x.dtype)))
        told = mask.to(x.dtype).flatten()

        def after_residual(h: Tensor, number: int) -> Tensor:
            layers: Any = self.over_time[number]
            h = layers.convolution(h, num_frames)
            return h if layers.film is None else layers.film(h, features[layers.scale], told)

        def at_end(h: Tensor, number: int) -> Tensor:
            layers: Any = self.over_time[number]
            return layers.attention(h, num_frames)

        between = after_residual, at_end
        predicted = run_image_unet(self.image, _frames(x), embedding, text.flatten(0, 1), between)
        return predicted.unflatten(0, (-1, num_frames)).transpose(1, 2)

    def _embed(self, timestep: Tensor, stride: Tensor, dtype: torch.dtype) -> Tensor:
        time = self.image.time_embedding(self.image.time_proj(timestep).to(dtype))
        return time + self.stride_embedding(_stride_waves(stride).to(dtype))


def _stride_waves(stride: Tensor) -> Tensor:
    """Sines and cosines of the stride's logarithm, from a half turn in 16 doublings to one in an eighth of one."""
    turns = torch.log2(stride.float()) / 16
    angle = pi * turns[:, None] * 2.0 ** torch.arange(STRIDE_WAVES, device=stride.device)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def _frames(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(0, 1)


def _number(config: Any, name: str) -> int:
    return config[name]


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
