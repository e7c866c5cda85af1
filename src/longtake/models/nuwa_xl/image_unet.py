"""An image UNet as a list of blocks that something can be put between, and the images of a video UNet as one.

Runs the library's layers in the library's order; equal to its own forward where nothing is put between.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers import UNet2DConditionModel, UNet3DConditionModel
from diffusers.models.unets.unet_2d_blocks import (
    CrossAttnDownBlock2D,
    CrossAttnUpBlock2D,
    DownBlock2D,
    UNetMidBlock2DCrossAttn,
    UpBlock2D,
)
from torch import Tensor, nn

from longtake.errors import InputError
from longtake.words import an

WITH_TEXT = (CrossAttnDownBlock2D, UNetMidBlock2DCrossAttn, CrossAttnUpBlock2D)
PLAIN: dict[str, Any] = {
    "center_input_sample": False,
    "class_embed_type": None,
    "num_class_embeds": None,
    "addition_embed_type": None,
    "encoder_hid_dim_type": None,
    "time_cond_proj_dim": None,
    "dual_cross_attention": False,
    "attention_type": "default",
    "downsample_padding": 1,
}
"""Settings of UNet2DConditionModel that must be as they are in Stable Diffusion 1 and 2."""
TEMPORAL = ("transformer_in.", "temp_convs.", "temp_attentions.")
"""In the names of a video UNet's tensors that concern more than one frame."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A residual block with the transformer behind it, if there is one."""

    residual: nn.Module
    transformer: nn.Module | None
    channels: int
    """Of its output."""
    scale: int
    """0 is the finest."""
    heads: int
    """Of attention at this scale."""
    upward: bool
    """Whether it lies on the way up."""


Between = Callable[[Tensor, int], Tensor]
"""Features (frames, channels, height, width) and the number of the block -> features."""


def check_image_unet(unet: UNet2DConditionModel) -> None:
    """Raise InputError for an image UNet that is built in another way than Stable Diffusion's."""
    config: Any = unet.config
    for name, plain in PLAIN.items():
        if config[name] != plain:
            raise InputError(f"an image UNet whose {name} is {config[name]!r} cannot be run; it must be {plain!r}")
    kinds = (*WITH_TEXT, DownBlock2D, UpBlock2D)
    for block in _stages(unet):
        if not isinstance(block, kinds):
            known = ", ".join(kind.__name__ for kind in kinds)
            raise InputError(f"an image UNet with {an(type(block).__name__)} cannot be run; known blocks: {known}")


def blocks(unet: UNet2DConditionModel) -> list[Block]:
    """Return the blocks of an image UNet in the order in which they run."""
    depth, found = len(unet.down_blocks), []
    for number, stage in enumerate(_stages(unet)):
        scale = number if number < depth else depth - 1 if number == depth else 2 * depth - number
        for residual, transformer in _pairs(stage):
            channels = cast(int, residual.out_channels)
            found.append(
                Block(
                    residual=residual,
                    transformer=transformer,
                    channels=channels,
                    scale=scale,
                    heads=_heads(unet, scale),
                    upward=number > depth,
                )
            )
    return found


def run_image_unet(
    unet: UNet2DConditionModel,
    x_FCHW: Tensor,
    embedding: Tensor,
    text: Tensor,
    between: tuple[Between, Between],
) -> Tensor:
    """Return what the UNet predicts of frames, given their time embeddings and texts.

    `between` are called in every block, after the residual block and at its end.
    """
    numbers = itertools.count()

    def run(pair: tuple[nn.Module, nn.Module | None], h: Tensor) -> Tensor:
        (residual, transformer), number = pair, next(numbers)
        h = between[0](residual(h, embedding), number)
        if transformer is not None:
            h = transformer(h, encoder_hidden_states=text, return_dict=False)[0]
        return between[1](h, number)

    h = unet.conv_in(x_FCHW)
    skips = [h]
    for stage in unet.down_blocks:
        for pair in _pairs(stage):
            h = run(pair, h)
            skips.append(h)
        for halve in cast(Any, stage).downsamplers or ():
            h = halve(h)
            skips.append(h)
    for pair in _pairs(unet.mid_block):
        h = run(pair, h)
    for stage in unet.up_blocks:
        for pair in _pairs(stage):
            h = run(pair, torch.cat([h, skips.pop()], dim=1))
        for double in cast(Any, stage).upsamplers or ():
            h = double(h, skips[-1].shape[-2:])
    end: Any = unet
    if end.conv_norm_out is not None:
        h = end.conv_act(end.conv_norm_out(h))
    return end.conv_out(h)


def images_of(video: UNet3DConditionModel) -> UNet2DConditionModel:
    """Return the image UNet that a video UNet is when all that concerns more than one frame is left out."""
    config: Any = video.config
    widths = config.block_out_channels
    unet = UNet2DConditionModel(
        sample_size=config.sample_size,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        down_block_types=tuple(kind.replace("3D", "2D") for kind in config.down_block_types),
        up_block_types=tuple(kind.replace("3D", "2D") for kind in config.up_block_types),
        block_out_channels=widths,
        layers_per_block=config.layers_per_block,
        downsample_padding=config.downsample_padding,
        mid_block_scale_factor=config.mid_block_scale_factor,
        act_fn=config.act_fn,
        norm_num_groups=config.norm_num_groups,
        norm_eps=config.norm_eps,
        cross_attention_dim=config.cross_attention_dim,
        # There the width of a head; here, under the same name, their number.
        attention_head_dim=tuple(width // config.attention_head_dim for width in widths),
        use_linear_projection=True,
    )
    tensors = video.state_dict()
    unet.load_state_dict({name: value for name, value in tensors.items() if not any(part in name for part in TEMPORAL)})
    return unet


def _stages(unet: UNet2DConditionModel) -> list[nn.Module]:
    return [*unet.down_blocks, cast(nn.Module, unet.mid_block), *unet.up_blocks]


def _pairs(stage: Any) -> list[tuple[nn.Module, nn.Module | None]]:
    """Return residual blocks, each with the transformer that follows it."""
    transformers = list(stage.attentions) if isinstance(stage, WITH_TEXT) else []
    transformers += [None] * (len(stage.resnets) - len(transformers))
    return list(zip(stage.resnets, transformers, strict=True))


def _heads(unet: UNet2DConditionModel, scale: int) -> int:
    config: Any = unet.config
    heads = config.num_attention_heads or config.attention_head_dim
    return heads if isinstance(heads, int) else heads[scale]
