"""What can be known of a model of ModelScope's family before its weights are loaded. Imports no torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import isqrt
from typing import Any

from longtake.errors import CheckpointError, InputError
from longtake.model import Continuation, Infill, PerFrameNoise, TemporalHooks, ToldFps, VideoModel, VideoSpec
from longtake.models.hub.configs import EXTRAS, Configs, Count, Part
from longtake.models.hub.family import Offer
from longtake.models.image_spec import Denoiser, ImageAutoencoder, image_spec, sized

USES = ("num_frames", "size", "infill_guidance", "clean_frames", "told_fps", "use_scale", "vocabulary")
FPS_EMBEDDING = tuple(
    f"fps_embedding.{layer}.{kind}" for layer in ("linear_1", "linear_2") for kind in ("weight", "bias")
)
"""VideoCrafter2's tensors beyond UNet3DConditionModel, in the file of the UNet."""
Layer = tuple[str, int, int]
"""Kind, channels, cells of a frame; see `VideoSpec.temporal_layers`."""

# The defaults of UNet3DConditionModel, for configurations that leave them out.
DOWN = ("CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D")
UP = ("UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D")
WIDTHS = (320, 640, 1280, 1280)
CONVOLUTIONS = 4
"""Pairs of norm and convolution in a TemporalConvLayer."""


OFFERS = (
    Offer(
        models="`sprites`, `sprites-fast` (embedded)",
        page="models/sprites.md",
        capabilities=frozenset({PerFrameNoise, TemporalHooks, Infill, Continuation}),
        trained="a level a frame, known frames, one prompt a clip (`sprites-fast`: a prompt a frame)",
        extrapolated="a prompt a frame; clips that see each other",
    ),
    Offer(
        models="ModelScope, ZeroScope, VideoCrafter2, `sprites-uniform` (embedded)",
        page="models/videocrafter2.md",
        capabilities=frozenset({PerFrameNoise, TemporalHooks}),
        trained="one level and one prompt a clip",
        extrapolated="a level or a prompt a frame; clips that see each other",
    ),
)
"""Rows of the table of what runs on what."""


@dataclass(frozen=True, kw_only=True)
class TextEncoder:
    """What is read of the config of CLIPTextModel; the default is the library's."""

    max_position_embeddings: Count = 77


def spec(configs: Configs) -> VideoSpec:
    """Return the spec of a model.

    Raises InputError for settings that do not fit it, CheckpointError for broken configs.
    """
    extras, unet = configs.told(USES), configs.parts["unet"]
    if extras.infill_guidance is not None and not extras.clean_frames:
        raise CheckpointError(f"{configs.said_in}: infill_guidance has no effect without clean_frames; remove it")
    _check_fps_embedding(unet, extras.told_fps, configs.said_in)
    scheduler = configs.parts["scheduler"]
    if extras.use_scale and scheduler.config.get("prediction_type", "epsilon") != "epsilon":
        raise InputError(f"use_scale of {EXTRAS} is for networks that predict epsilon, which {scheduler.where} denies")
    denoiser = unet.read(Denoiser)
    cell = cell_side(denoiser.in_channels, configs.parts["vae"].read(ImageAutoencoder).latent_channels)
    denoiser = sized(configs, extras, replace(denoiser, cell=cell))
    capabilities: set[type[VideoModel]] = {PerFrameNoise, TemporalHooks}
    if extras.clean_frames:
        capabilities |= {Infill, Continuation}
    if extras.told_fps is not None:
        capabilities |= {ToldFps}
    layers = temporal_layers(unet.config, denoiser.size, unet.where)
    # Every transformer over time but transformer_in, the first, follows one over cells, whose keys and values are kept.
    widths = [channels for kind, channels, _ in layers if kind == "attention"][2:]
    tokens = configs.parts["text_encoder"].read(TextEncoder).max_position_embeddings
    # Counted on fake tensors, of transformer_in, which is wider than all that follows: 8 heads of that width.
    working = 165 * unet.config.get("attention_head_dim", 64)
    more = {"temporal_layers": layers, "prompt_numbers": tokens * sum(widths), "working": working}
    return image_spec(configs, extras, denoiser, capabilities, blends=True, **more)


def cell_side(channels: int, latent_channels: int) -> int:
    """Return the side of the square of latents that a network of so many channels takes as one, all theirs in a row.

    A UNet on squares of 2 x 2 runs as fast as one on latents half as many a side, and its pictures are as sharp as
    those latents.
    """
    return max(isqrt(channels // latent_channels), 1)


def _check_fps_embedding(unet: Part, told_fps: float | None, said_in: str) -> None:
    """Check that a UNet wants to be told of frames per second exactly where they are given.

    Raises InputError where it does not, CheckpointError for an embedding of another form.
    """
    found = {name for name in unet.shapes() if name.startswith("fps_embedding.")}
    if found and found != set(FPS_EMBEDDING):
        raise CheckpointError(f"{unet.where} has an fps embedding of another form; known: {', '.join(FPS_EMBEDDING)}")
    if found and told_fps is None:
        raise InputError(
            f"{said_in} lacks told_fps: the UNet must be told of frames per second, which it has layers for; "
            "'longtake convert videocrafter2' makes a folder that says so of the authors' checkpoint"
        )
    if told_fps is not None and not found:
        raise InputError(f"told_fps of {EXTRAS} has no effect: {unet.where} has no fps embedding; leave it out")


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
    widths = config.get("block_out_channels", WIDTHS)
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


def _stage(kind: Any, channels: int, groups: int, heads: int, cells: int) -> Iterator[Layer]:
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
