"""Which layers of a video UNet mix frames, from its configuration alone: what travels between processes is theirs."""

from collections.abc import Iterator, Mapping
from typing import Any

from longtake.errors import CheckpointError

Layer = tuple[str, int, int]
"""Kind, channels, cells of a frame; see `VideoSpec.temporal_layers`."""

# The defaults of UNet3DConditionModel, for configurations that leave them out.
DOWN = ("CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D")
UP = ("UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D")
CONVOLUTIONS = 4
"""Pairs of norm and convolution in a TemporalConvLayer."""


def temporal_layers(
    config: Mapping[str, Any], size: tuple[int, int], where: str = "unet/config.json"
) -> tuple[Layer, ...]:
    """Return the layers of a UNet3DConditionModel that mix frames, in the order in which they run.

    `config` is the content of the file `where`, `size` the latents' height and width. Raises CheckpointError for one
    that fits no such network.
    """
    try:
        return tuple(_layers(config, size))
    except (TypeError, ValueError, ArithmeticError, IndexError, AttributeError) as error:
        raise CheckpointError(f"{where} describes no video UNet ({error}); fetch the model again") from None


def _layers(config: Mapping[str, Any], size: tuple[int, int]) -> Iterator[Layer]:
    widths = config.get("block_out_channels", (320, 640, 1280, 1280))
    depth, groups = config.get("layers_per_block", 2), config.get("norm_num_groups", 32)
    # The configuration calls the number of heads their width, and only transformer_in takes it at its word.
    heads = config.get("attention_head_dim", 64)
    sizes = [size]
    for _ in widths[1:]:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    cells = [height * width for height, width in sizes]
    yield from _transformer(groups, 8 * heads, cells[0])
    for place, kind in enumerate(config.get("down_block_types", DOWN)):
        for _ in range(depth):
            yield from _stage(kind, widths[place], groups, heads, cells[place])
    yield from _convolutions(groups, widths[-1], cells[-1])
    yield from _transformer(groups, widths[-1] // heads * heads, cells[-1])
    yield from _convolutions(groups, widths[-1], cells[-1])
    for place, kind in enumerate(config.get("up_block_types", UP)):
        level = len(widths) - 1 - place
        for _ in range(depth + 1):
            yield from _stage(kind, widths[level], groups, heads, cells[level])


def _stage(kind: str, channels: int, groups: int, heads: int, cells: int) -> Iterator[Layer]:
    yield from _convolutions(groups, channels, cells)
    if kind.startswith("CrossAttn"):
        yield from _transformer(groups, channels // heads * heads, cells)


def _convolutions(groups: int, channels: int, cells: int) -> Iterator[Layer]:
    yield "block", channels, cells
    for _ in range(CONVOLUTIONS):
        yield "norm", groups, 1
        yield "convolution", channels, cells


def _transformer(groups: int, width: int, cells: int) -> Iterator[Layer]:
    yield "norm", groups, 1
    yield "attention", width, cells
    yield "attention", width, cells
