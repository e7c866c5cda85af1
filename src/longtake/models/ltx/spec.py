"""What can be known of LTX-Video 0.9 and LTX-2 before they are loaded (HaCohen et al., 2024, arXiv 2501.00103).

0.9.0 to 0.9.8, 2.0 and 2.3, whatever pipeline saved them. Imports no torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from longtake.machine import Part
from longtake.model import Continuation, Infill, PerFrameNoise, TemporalHooks, Timing, VideoSpec
from longtake.models.hub.configs import Configs, Count, TextEncoder
from longtake.models.hub.family import Offer

# What the stock pipelines use: 161 frames at 25 per second.
NATIVE: dict[str, Any] = {"fps": 25.0, "guidance": 3.0, "num_frames": 21, "size": [512, 704]}
NATIVE_2: dict[str, Any] = {"fps": 24.0, "guidance": 3.0, "num_frames": 16, "size": [512, 768], "clean_frames": True}


OFFERS = (
    Offer(
        models="LTX-Video 0.9",
        page="models/ltx.md",
        capabilities=frozenset({PerFrameNoise, TemporalHooks, Infill, Continuation}),
        without=("nuwa-xl",),
        trained="one level and one prompt a clip; a first picture, from 0.9.5 known frames anywhere",
        extrapolated="a level or a prompt a frame; clips that see each other",
    ),
    Offer(
        models="LTX-2",
        page="models/ltx.md",
        capabilities=frozenset({PerFrameNoise, TemporalHooks, Infill, Continuation}),
        without=("nuwa-xl",),
        sound="not made",
        trained="one level and one prompt a clip; a first picture, with its sound beside it",
        extrapolated="a level or a prompt a frame; clips that see each other; a picture without its sound",
    ),
)
"""Rows of the table of what runs on what."""


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """What is read of the config of a transformer; the defaults are the library's for LTXVideoTransformer3DModel."""

    in_channels: Count = 128
    patch_size: Count = 1
    patch_size_t: Count = 1
    num_attention_heads: Count = 32
    attention_head_dim: Count = 64
    num_layers: Count = 28


@dataclass(frozen=True, kw_only=True)
class Autoencoder:
    """What is read of the config of an autoencoder; the defaults are the library's for AutoencoderKLLTXVideo."""

    latent_channels: Count = 128
    decoder_block_out_channels: tuple[Count, ...] = (128, 256, 512, 512)
    decoder_layers_per_block: tuple[Count, ...] = (4, 3, 3, 3, 4)
    decoder_spatio_temporal_scaling: bool | tuple[bool, ...] = (True, True, True, False)
    upsample_residual: bool | tuple[bool, ...] = (False, False, False, False)
    upsample_factor: tuple[Count, ...] = (1, 1, 1, 1)
    patch_size: Count = 4
    patch_size_t: Count = 1
    decoder_causal: bool = False
    upsample_type: tuple[Literal["spatiotemporal", "temporal", "spatial"], ...] = ()
    """What is doubled where something is, from the latents on; where nothing is said, all."""

    @property
    def doubled(self) -> list[str]:
        """Return what is doubled by each of the blocks that make frames larger, from the latents on; nothing, or what
        `upsample_type` says."""
        scaling = self.decoder_spatio_temporal_scaling
        does = [scaling] * (len(self.decoder_layers_per_block) - 1) if isinstance(scaling, bool) else scaling[::-1]
        types = self.upsample_type or ("spatiotemporal",) * len(does)
        return [kind if doubles else "" for kind, doubles in zip(types, does, strict=True)]

    @property
    def stride(self) -> int:
        """Return how many frames of the video a latent is."""
        return 2 ** sum("temporal" in kind for kind in self.doubled)

    @property
    def unit(self) -> int:
        """Return how many pixels a side of a latent's cell is."""
        return self.patch_size * 2 ** sum("spati" in kind for kind in self.doubled)


@dataclass(frozen=True, kw_only=True)
class Connectors:
    """What is read of the config of LTX2TextConnectors; the defaults are the library's."""

    video_connector_num_attention_heads: Count = 30
    video_connector_attention_head_dim: Count = 128


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of the decoder that looks at more than one frame."""

    kind: str
    """convolution; block, which is two of them beside a shortcut; or doubling."""
    channels: int
    """That enter it."""
    inner: int = 0
    """Channels between the two convolutions of a block."""
    shortcut: bool = True
    """Whether what enters waits for what the convolutions make of it."""
    doubled: str = ""
    """What there is twice as much of after it: see `Autoencoder.doubled`."""


def spec(configs: Configs) -> VideoSpec:
    """Return the spec of a model.

    Raises InputError for a model of another kind or a size that does not fit it, CheckpointError for broken configs.
    """
    uses = ("num_frames", "size", "clean_frames", "sigmas")
    native = NATIVE_2 if is_second(configs) else NATIVE | {"clean_frames": takes_conditions(configs)}
    extras = configs.told(uses, **native)
    network, vae = configs.parts["transformer"].read(Transformer), configs.parts["vae"].read(Autoencoder)
    if (network.patch_size, network.patch_size_t, vae.patch_size_t) != (1, 1, 1):
        raise configs.parts["transformer"].error("longtake runs LTX with patch_size 1 and patch_size_t 1")
    if network.in_channels != vae.latent_channels:
        raise configs.parts["transformer"].error(
            f"in_channels {network.in_channels} does not fit the {vae.latent_channels} channels of the latents (vae)"
        )
    unit, timing = vae.unit, Timing(stride=vae.stride)
    height, width = configs.picture_size(extras, unit)
    configs.check_window(extras.num_frames, timing)
    cells, inner = height // unit * (width // unit), network.num_attention_heads * network.attention_head_dim
    tokens = extras.num_frames * cells
    layers = list(decoder_layers(vae))
    remembered = remembered_numbers(layers, cells, vae.decoder_causal)
    text = text_tokens(configs)
    return VideoSpec(
        name=configs.name,
        num_frames=extras.num_frames,
        height=height,
        width=width,
        fps=extras.fps,
        latent_shape=(vae.latent_channels, extras.num_frames, height // unit, width // unit),
        timing=timing,
        decoder_history=decoder_history(layers, vae.decoder_causal),
        decoder_held=decoder_held(layers, vae.decoder_causal, timing),
        guidance=extras.guidance,
        capabilities=frozenset({PerFrameNoise, TemporalHooks, Infill, Continuation}),
        clean_frames=extras.clean_frames,
        sigmas=configs.distilled(extras.sigmas),
        released="bfloat16",
        drops_sound=is_second(configs),
        parameters=configs.parameters,
        prompt_tokens=text,
        prompt_numbers=text * (1 + _text_width(configs)),
        text_encoder=Part(parameters=configs.parts["text_encoder"].parameters),
        # Counted on fake tensors of the released sizes, as what the decoder works with.
        network=Part(working=tokens * (30 if is_second(configs) else 25) * inner, wide=tokens * 2 * inner),
        decoder=Part(
            parameters=configs.parts["vae"].parameters,
            # What is remembered next is made while the last is there.
            working=remembered + 11 * layers[-1].channels * vae.stride * (height * width // vae.patch_size**2) // 2,
            remembered=remembered,
        ),
        forward_flops=extras.forward_flops or _forward_flops(network, tokens, text),
        decode_flops=extras.decode_flops,
        temporal_layers=(("attention", inner, cells),) * network.num_layers,
    )


def is_second(configs: Configs) -> bool:
    """Return whether a model is LTX-2."""
    return "connectors" in configs.parts


def takes_conditions(configs: Configs) -> bool:
    """Return whether a model was saved as one that takes known frames at any place: 0.9.5 and later."""
    return configs.index.get("_class_name") == "LTXConditionPipeline"


def text_tokens(configs: Configs) -> int:
    """Return how many tokens of a prompt the stock pipeline keeps."""
    if is_second(configs):
        return 1024
    return 256 if takes_conditions(configs) else 128


def decoder_layers(vae: Autoencoder) -> Iterator[Layer]:
    """Yield the layers of the decoder that look at more than one frame, in the order in which they run."""
    counts, outs = vae.decoder_layers_per_block[::-1], vae.decoder_block_out_channels[::-1]
    residual = vae.upsample_residual
    yield Layer(kind="convolution", channels=vae.latent_channels)
    yield from (Layer(kind="block", channels=outs[0], inner=outs[0]),) * counts[0]
    width = outs[0]
    stages = zip(
        outs,
        counts[1:],
        vae.doubled,
        [residual] * (len(counts) - 1) if isinstance(residual, bool) else residual[::-1],
        vae.upsample_factor[::-1],
        strict=True,
    )
    for channels, count, doubled, has_shortcut, factor in stages:
        leaving = channels // factor
        if width // factor != leaving:
            yield Layer(kind="block", channels=width, inner=leaving)
        if doubled:
            yield Layer(kind="doubling", channels=leaving * factor, shortcut=has_shortcut, doubled=doubled)
        yield from (Layer(kind="block", channels=leaving, inner=leaving),) * count
        width = leaving
    yield Layer(kind="convolution", channels=width)


def decoder_history(layers: list[Layer], causal: bool) -> int:
    """Return how many of the last latents decide what the decoder remembers: 48 at the depth that was released.

    A decoder that begins with them has put copies of its first frame before it. Every convolution spoils one more of
    the first frames, two where it looks back only; what is remembered of a layer, its last two, must be behind them.
    """
    spoilt_by, late_by = (2, 0) if causal else (1, 1)
    latents = 1
    while True:
        frames, spoilt = latents, 0
        for layer in layers:
            if frames - spoilt < 2:
                break
            convolutions = 2 if layer.kind == "block" else 1
            frames, spoilt = frames - late_by * convolutions, spoilt + spoilt_by * convolutions
            if "temporal" in layer.doubled:
                frames, spoilt = 2 * frames - 1, 2 * spoilt - 1
        else:
            return latents
        latents += 1


def decoder_held(layers: list[Layer], causal: bool, timing: Timing) -> int:
    """Return how many latents the decoder holds back, rounded up: every convolution that looks ahead waits for one of
    the frames that it is given."""
    latents = decoder_history(layers, causal)
    frames = latents
    for layer in layers:
        frames -= 0 if causal else 2 if layer.kind == "block" else 1
        frames = 2 * frames - 1 if "temporal" in layer.doubled else frames
    return -(-(timing.pixel_frames(latents) - frames) // timing.stride)


def remembered_numbers(layers: list[Layer], cells: int, causal: bool) -> int:
    """Return how many numbers the decoder remembers where a frame of the latents has so many cells."""
    waiting = 0 if causal else 1
    numbers = 0
    for layer in layers:
        if layer.kind == "block":
            numbers += cells * (2 * layer.channels + 2 * layer.inner + 2 * waiting * layer.channels)
        else:
            numbers += 2 * cells * layer.channels
        if layer.kind == "doubling":
            numbers += waiting * layer.shortcut * cells * layer.channels
        if "spati" in layer.doubled:
            cells *= 4
    return numbers


def _text_width(configs: Configs) -> int:
    if not is_second(configs):
        return configs.parts["text_encoder"].read(TextEncoder).d_model
    read = configs.parts["connectors"].read(Connectors)
    return read.video_connector_num_attention_heads * read.video_connector_attention_head_dim


def _forward_flops(network: Transformer, tokens: int, text: int) -> int:
    width = network.num_attention_heads * network.attention_head_dim
    projections = 6 * tokens * width**2 + 2 * text * width**2
    scores, between = 2 * tokens * (tokens + text) * width, 8 * tokens * width**2
    return 2 * network.num_layers * (projections + scores + between)
