"""What can be known of AnimateDiff before its weights are loaded. Imports no torch.

The motion_adapter of a folder whose UNet holds the same weights is not read.
"""

from dataclasses import dataclass, replace

from longtake.errors import CheckpointError, InputError
from longtake.model import Continuation, Infill, PerFrameNoise, TemporalHooks, Timing, VideoSpec
from longtake.models.hub.configs import Configs, Count, Length, Part
from longtake.models.hub.family import Offer
from longtake.models.image_spec import Denoiser, image_spec, sized

Layer = tuple[str, int, int]
"""Kind, channels, cells of a frame; see `VideoSpec.temporal_layers`."""
Counts = Count | tuple[Count, ...]
"""For every block, or one for all."""

LCM_GUIDANCE = 2.0
"""What diffusers' documentation of AnimateLCM takes; it learned pictures that were guided already."""


OFFERS = (
    Offer(
        models="AnimateDiff",
        page="models/animatediff.md",
        capabilities=frozenset({PerFrameNoise, TemporalHooks}),
        trained="one level and one prompt a clip",
        extrapolated="a level or a prompt a frame; clips that see each other",
    ),
    Offer(
        models="AnimateDiff with SparseCtrl",
        page="models/sparsectrl.md",
        capabilities=frozenset({Infill, Continuation}),
        trained="one level and one prompt a clip, some known frames",
        extrapolated="a prompt a frame; frames farther apart",
    ),
)
"""Rows of the table of what runs on what."""


@dataclass(frozen=True, kw_only=True)
class Unet(Denoiser):
    """What is read of the config of UNetMotionModel, or UNet2DConditionModel; the defaults are the library's."""

    block_out_channels: tuple[Count, ...] = (320, 640, 1280, 1280)
    layers_per_block: Counts = 2
    norm_num_groups: Count = 32
    addition_embed_type: str | None = None
    motion_max_seq_length: Length = 32
    use_motion_mid_block: bool = True
    mid_block_layers: Count = 1
    temporal_transformer_layers_per_block: Counts = 1
    temporal_transformer_layers_per_mid_block: Counts = 1


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """What is read of the config of MotionAdapter; the defaults are the library's."""

    block_out_channels: tuple[Count, ...] = (320, 640, 1280, 1280)
    conv_in_channels: Count | None = None
    motion_layers_per_block: Counts = 2
    motion_max_seq_length: Length = 32
    motion_transformer_layers_per_block: Counts = 1
    motion_transformer_layers_per_mid_block: Counts = 1
    use_motion_mid_block: bool = True


@dataclass(frozen=True, kw_only=True)
class Control:
    """What is read of the config of SparseControlNetModel; the defaults are the library's."""

    motion_max_seq_length: Length = 32
    use_simplified_condition_embedding: bool = True
    conditioning_channels: Count = 4


@dataclass(frozen=True, kw_only=True)
class TextEncoder:
    """What is read of the config of CLIPTextModel; the defaults are the library's."""

    max_position_embeddings: Count = 77
    hidden_size: Count = 512


def spec(configs: Configs) -> VideoSpec:
    """Return the spec of a model.

    Raises InputError for more frames than it has positions for, for another control and for a network of SDXL,
    CheckpointError for broken configs.
    """
    unet, part = _unet(configs), configs.parts["unet"]
    if unet.addition_embed_type is not None:
        raise InputError(
            f"{part.where}: the network is told of a second text encoder and of picture sizes, as SDXL's is "
            f"(addition_embed_type {unet.addition_embed_type}), which longtake does not do; take one for SD 1.5"
        )
    has_control = "controlnet" in configs.parts
    is_lcm = configs.parts["scheduler"].config.get("_class_name") == "LCMScheduler"
    uses = ("num_frames", "size", "vocabulary", *(("infill_guidance",) if has_control else ()))
    extras = configs.told(uses, guidance=LCM_GUIDANCE if is_lcm else 7.5)
    unet = sized(configs, extras, unet)
    lengths = [unet.motion_max_seq_length, *([_control_length(configs, unet)] if has_control else [])]
    timing = Timing(window_lengths=range(1, min(lengths) + 1))
    configs.check_window(extras.num_frames, timing)
    if has_control:
        return image_spec(configs, extras, unet, {Infill, Continuation}, timing=timing)
    text = configs.parts["text_encoder"].read(TextEncoder)
    return image_spec(
        configs,
        extras,
        unet,
        {PerFrameNoise, TemporalHooks},
        timing=timing,
        # Counted on fake tensors of the released sizes.
        working=26 * unet.block_out_channels[0],
        blends=True,
        prompt_numbers=text.max_position_embeddings * text.hidden_size,
        temporal_layers=temporal_layers(unet, configs.parts.get("motion_adapter", part)),
    )


def temporal_layers(unet: Unet, part: Part) -> tuple[Layer, ...]:
    """Return the layers of the motion modules that mix frames, in the order in which they run; `part` is for errors."""
    blocks, (height, width) = range(len(unet.block_out_channels)), unet.size
    modules = _each(unet.layers_per_block, len(blocks), part)
    depths = _each(unet.temporal_transformer_layers_per_block, len(blocks), part)

    def layers(place: int, depth: int) -> tuple[Layer, ...]:
        cells, channels = -(-height // 2**place) * -(-width // 2**place), unet.block_out_channels[place]
        return ("norm", unet.norm_num_groups, 1), *(("attention", channels, cells),) * (2 * depth)

    down = (layers(place, depths[place]) * modules[place] for place in blocks)
    between = _each(unet.temporal_transformer_layers_per_mid_block, unet.mid_block_layers, part)
    middle = (layers(blocks[-1], depth) for depth in between if unet.use_motion_mid_block)
    up = (layers(place, depths[place]) * (modules[place] + 1) for place in reversed(blocks))
    return tuple(layer for stage in (*down, *middle, *up) for layer in stage)


def _unet(configs: Configs) -> Unet:
    """Return what is said of the UNet, with the adapter that is to be put into it, if there is one."""
    part = configs.parts["unet"]
    unet, adapter_part = part.read(Unet), configs.parts.get("motion_adapter")
    if adapter_part is None:
        return unet
    adapter = adapter_part.read(Adapter)
    if adapter.block_out_channels != unet.block_out_channels:
        raise InputError(
            f"{adapter_part.where} is for a UNet with block_out_channels {list(adapter.block_out_channels)}, "
            f"{part.where} has {list(unet.block_out_channels)}; take the adapter of the same family of image models"
        )
    return replace(
        unet,
        in_channels=adapter.conv_in_channels or unet.in_channels,
        layers_per_block=adapter.motion_layers_per_block,
        motion_max_seq_length=adapter.motion_max_seq_length,
        use_motion_mid_block=adapter.use_motion_mid_block,
        temporal_transformer_layers_per_block=adapter.motion_transformer_layers_per_block,
        temporal_transformer_layers_per_mid_block=adapter.motion_transformer_layers_per_mid_block,
    )


def _control_length(configs: Configs, unet: Unet) -> int:
    """Return how many frames the control network has positions for; raise for one that does not fit."""
    where = configs.parts["controlnet"].where
    control = configs.parts["controlnet"].read(Control)
    if not control.use_simplified_condition_embedding:
        raise InputError(f"{where} is controlled by drawings; longtake needs one that is given frames (sparsectrl-rgb)")
    if control.conditioning_channels != unet.in_channels:
        raise CheckpointError(f"{where} is made for other latents than those of {configs.parts['unet'].where}")
    return control.motion_max_seq_length


def _each(counts: Counts, length: int, part: Part) -> tuple[int, ...]:
    """Return a count for each of so many blocks. Raises CheckpointError for a list of another length."""
    each = counts if isinstance(counts, tuple) else (counts,) * length
    if len(each) != length:
        raise part.error(f"{list(each)} is a count for each of {len(each)} blocks, but there are {length}")
    return each
