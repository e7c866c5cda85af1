"""The authors' checkpoints (github.com/sihyun-yu/PVDM): their names for our tensors, and the sizes that they imply."""

import math
import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from longtake.models.pvdm.config import AutoencoderConfig, Grid, UnetConfig

Rules = tuple[tuple[str, str], ...]

PREFIX = r"^(module\.)?(diffusion_model\.)?"
"""Of names that were saved from a wrapper."""

CONSTANTS = re.compile(r"(coords|(en|de)coder\.(frame_rot_emb\.inv_freqs|image_rot_emb\.scales)|zeros)")
"""Tensors that hold no weights: positions and an empty condition."""

AUTOENCODER: Rules = (
    (r"^(en|de)coder\.layers\.(\d+)\.0\.", r"\1coder.layers.\2.time."),
    (r"^(en|de)coder\.layers\.(\d+)\.1\.", r"\1coder.layers.\2.space."),
    (r"^(en|de)coder\.layers\.(\d+)\.2\.", r"\1coder.layers.\2.mlp."),
    (r"^(xy|yt|xt)_quant_attn\.layers\.(\d+)\.0\.", r"pools.\1.layers.\2.attention."),
    (r"^(xy|yt|xt)_quant_attn\.layers\.(\d+)\.1\.", r"pools.\1.layers.\2.mlp."),
    (r"^(xy|yt|xt)_token$", r"pools.\1.token"),
    (r"^(xy|yt|xt)_pos_embedding$", r"pools.\1.positions"),
    (r"^pre_(xy|yt|xt)\.", r"pools.\1.to_plane."),
    (r"^post_(xy|yt|xt)\.", r"from_planes.\1."),
    # Their planes bear the axes that are left, ours the axis that was folded.
    (r"(^|\.)xy\.", r"\1time."),
    (r"(^|\.)yt\.", r"\1height."),
    (r"(^|\.)xt\.", r"\1width."),
    (r"\.fn\.to_qkv\.", ".qkv."),
    (r"\.fn\.to_out\.0\.", ".out."),
    (r"\.fn\.net\.0\.", ".expand."),
    (r"\.fn\.net\.3\.", ".contract."),
    (r"^encoder\.to_patch_embedding\.", "from_pixels."),
    (r"^to_pixel\.1\.", "to_pixels."),
)

UNET: Rules = (
    (r"^time_embed\.", "embed."),
    (r"^input_blocks\.0\.0\.", "first."),
    (r"^input_blocks\.(\d+)\.0\.", r"down.\1.block."),
    (r"^input_blocks\.(\d+)\.1\.", r"down.\1.attention."),
    (r"^input_attns\.(\d+)\.", r"down.\1.joint.positions."),
    (r"^middle_block\.0\.", "middle.first."),
    (r"^middle_block\.1\.", "middle.attention."),
    (r"^middle_block\.2\.", "middle.second."),
    (r"^mid_attn\.", "middle.joint.positions."),
    (r"^output_blocks\.(\d+)\.0\.", r"up.\1.block."),
    (r"^output_blocks\.(\d+)\.\d\.(norm|qkv|proj_out)\.", r"up.\1.attention.\2."),
    (r"^output_blocks\.(\d+)\.\d\.", r"up.\1.enlarge."),
    (r"^output_attns\.(\d+)\.", r"up.\1.joint.positions."),
    (r"^out\.0\.", "last_norm."),
    (r"^out\.2\.", "last."),
    (r"\.in_layers\.0\.", ".norm_in."),
    (r"\.in_layers\.2\.", ".conv_in."),
    (r"\.emb_layers\.1\.", ".embed."),
    (r"\.out_layers\.0\.", ".norm_out."),
    (r"\.out_layers\.3\.", ".conv_out."),
    (r"\.skip_connection\.", ".skip."),
    (r"\.proj_out\.", ".out."),
)


def our_autoencoder(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of their autoencoder under our names and in our shapes; unknown names stay as they are."""
    ours = _renamed(tensors, AUTOENCODER)
    for name in [name for name in ours if name.endswith("to_plane.weight")]:
        ours[name] = ours[name].flatten(1)
    patches = ours.get("from_pixels.weight")
    if patches is not None and patches.ndim == 2:
        side = math.isqrt(patches.shape[1] // 3)
        ours["from_pixels.weight"] = patches.reshape(-1, side, side, 3).permute(0, 3, 1, 2).contiguous()
    return ours


def our_unet(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of their UNet under our names and in our shapes; unknown names stay as they are."""
    ours = _renamed(tensors, UNET)
    # They count the first convolution among the steps down.
    ours = {re.sub(r"^down\.(\d+)", lambda found: f"down.{int(found[1]) - 1}", n): t for n, t in ours.items()}
    pointwise = re.compile(r"(attention|positions)\.(qkv|out)\.weight")
    return {name: tensor.flatten(1) if pointwise.search(name) else tensor for name, tensor in ours.items()}


def is_unet(names: Iterable[str]) -> bool:
    """Return whether these are the tensors of a UNet rather than of an autoencoder."""
    return any(re.search(PREFIX + r"input_blocks\.", name) for name in names)


def autoencoder_config(ours: Mapping[str, Tensor], pool_heads: int = 4) -> AutoencoderConfig:
    """Return the sizes of an autoencoder from its tensors. Raises KeyError where one is missing that tells them.

    The number of heads of the pools is in no tensor.
    """
    shape = {name: tuple(tensor.shape) for name, tensor in ours.items()}
    frames, rows, columns = (shape[f"pools.{axis}.positions"][1] - 1 for axis in ("time", "height", "width"))
    width, _, patch, _ = shape["from_pixels.weight"]
    return AutoencoderConfig(
        grid=Grid(frames=frames, rows=rows, columns=columns),
        patch=patch,
        width=width,
        depth=_count(shape, r"encoder\.layers\.\d+"),
        heads=shape["encoder.layers.0.time.qkv.weight"][0] // (3 * 64),
        pool_depth=_count(shape, r"pools\.time\.layers\.\d+"),
        pool_heads=pool_heads,
        pool_hidden=shape["pools.time.layers.0.mlp.expand.weight"][0],
        latent_channels=shape["pools.time.to_plane.weight"][0],
        compat=True,
    )


def unet_config(ours: Mapping[str, Tensor], grid: Grid, heads: int = 8) -> UnetConfig:
    """Return the sizes of a UNet from its tensors. Raises KeyError where one is missing that tells them.

    Neither the grid nor the number of heads is in any tensor.
    """
    shape = {name: tuple(tensor.shape) for name, tensor in ours.items()}
    levels = _count(shape, r"up\.\d+\.enlarge") + 1
    blocks = _count(shape, r"up\.\d+") // levels - 1
    channels = shape["first.weight"][0]
    # The way up begins with the last level.
    steps = [(blocks + 1) * (levels - 1 - level) for level in range(levels)]
    return UnetConfig(
        grid=grid,
        latent_channels=shape["last.weight"][0],
        channels=channels,
        multipliers=tuple(shape[f"up.{step}.block.conv_out.weight"][0] // channels for step in steps),
        blocks=blocks,
        attention=tuple(f"up.{step}.attention.qkv.weight" in shape for step in steps),
        heads=heads,
    )


def _renamed(tensors: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    ours: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        name = re.sub(PREFIX, "", name)
        if CONSTANTS.fullmatch(name):
            continue
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        ours[name] = tensor
    return ours


def _count(names: Iterable[str], pattern: str) -> int:
    """Return how many modules are of this name."""
    return len({found[0] for name in names if (found := re.match(pattern, name))})
