"""What can be known of LTX-Video 0.9 before its weights are loaded (HaCohen et al., 2024, arXiv 2501.00103).

0.9.0 to 0.9.8, whatever pipeline saved them. Imports no torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from longtake.machine import Part
from longtake.model import Continuation, Infill, PerFrameNoise, TemporalHooks, Timing, VideoSpec
from longtake.models.hub.configs import Configs, Count, TextEncoder

# What the stock pipelines use: 161 frames at 25 per second.
NATIVE: dict[str, Any] = {"fps": 25.0, "guidance": 3.0, "num_frames": 21, "size": [512, 704]}


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """What is read of the config of LTXVideoTransformer3DModel; the defaults are the library's."""

    in_channels: Count = 128
    patch_size: Count = 1
    patch_size_t: Count = 1
    num_attention_heads: Count = 32
    attention_head_dim: Count = 64
    num_layers: Count = 28


@dataclass(frozen=True, kw_only=True)
class Autoencoder:
    """What is read of the config of AutoencoderKLLTXVideo; the defaults are the library's."""

    latent_channels: Count = 128
    decoder_block_out_channels: tuple[Count, ...] = (128, 256, 512, 512)
    decoder_layers_per_block: tuple[Count, ...] = (4, 3, 3, 3, 4)
    decoder_spatio_temporal_scaling: tuple[bool, ...] = (True, True, True, False)
    upsample_residual: tuple[bool, ...] = (False, False, False, False)
    upsample_factor: tuple[Count, ...] = (1, 1, 1, 1)
    patch_size: Count = 4
    patch_size_t: Count = 1
    decoder_causal: bool = False


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of the decoder that looks at more than one frame."""

    kind: str
    """convolution; block, which is two of them beside a shortcut; or doubling, after which there are twice as many
    frames, twice as high and wide."""
    channels: int
    """That enter it."""
    inner: int = 0
    """Channels between the two convolutions of a block."""
    shortcut: bool = True
    """Whether what enters waits for what the convolutions make of it."""


def spec(configs: Configs) -> VideoSpec:
    """Return the spec of a model.

    Raises InputError for a model of another kind or a size that does not fit it, CheckpointError for broken configs.
    """
    uses = ("num_frames", "size", "clean_frames")
    extras = configs.told(uses, **NATIVE | {"clean_frames": takes_conditions(configs)})
    network, vae = configs.parts["transformer"].read(Transformer), configs.parts["vae"].read(Autoencoder)
    if (network.patch_size, network.patch_size_t, vae.patch_size_t) != (1, 1, 1):
        raise configs.parts["transformer"].error("longtake runs LTX with patch_size 1 and patch_size_t 1")
    if network.in_channels != vae.latent_channels:
        raise configs.parts["transformer"].error(
            f"in_channels {network.in_channels} does not fit the {vae.latent_channels} channels of the latents"
        )
    doublings = sum(vae.decoder_spatio_temporal_scaling)
    unit, timing = vae.patch_size * 2**doublings, Timing(stride=2**doublings)
    height, width = configs.picture_size(extras, unit)
    configs.check_window(extras.num_frames, timing)
    cells, inner = height // unit * (width // unit), network.num_attention_heads * network.attention_head_dim
    layers = list(decoder_layers(vae))
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
        guidance=extras.guidance,
        capabilities=frozenset({PerFrameNoise, TemporalHooks, Infill, Continuation}),
        clean_frames=extras.clean_frames,
        released="bfloat16",
        parameters=configs.parameters,
        prompt_tokens=text,
        prompt_numbers=text * (1 + configs.parts["text_encoder"].read(TextEncoder).d_model),
        text_encoder=Part(parameters=configs.parts["text_encoder"].parameters),
        decoder=Part(
            parameters=configs.parts["vae"].parameters, remembered=remembered_numbers(layers, cells, vae.decoder_causal)
        ),
        forward_flops=extras.forward_flops or _forward_flops(network, extras.num_frames * cells, text),
        decode_flops=extras.decode_flops,
        temporal_layers=(("attention", inner, cells),) * network.num_layers,
    )


def takes_conditions(configs: Configs) -> bool:
    """Return whether a model was saved as one that takes known frames at any place: 0.9.5 and later."""
    return configs.index.get("_class_name") == "LTXConditionPipeline"


def text_tokens(configs: Configs) -> int:
    """Return how many tokens of a prompt the stock pipeline keeps."""
    return 256 if takes_conditions(configs) else 128


def decoder_layers(vae: Autoencoder) -> Iterator[Layer]:
    """Yield the layers of the decoder that look at more than one frame, in the order in which they run."""
    counts, outs = vae.decoder_layers_per_block[::-1], vae.decoder_block_out_channels[::-1]
    yield Layer(kind="convolution", channels=vae.latent_channels)
    yield from (Layer(kind="block", channels=outs[0], inner=outs[0]),) * counts[0]
    width = outs[0]
    stages = zip(
        outs,
        counts[1:],
        vae.decoder_spatio_temporal_scaling[::-1],
        vae.upsample_residual[::-1],
        vae.upsample_factor[::-1],
        strict=True,
    )
    for channels, count, doubles, has_shortcut, factor in stages:
        leaving = channels // factor
        if width // factor != leaving:
            yield Layer(kind="block", channels=width, inner=leaving)
        if doubles:
            yield Layer(kind="doubling", channels=leaving * factor, shortcut=has_shortcut)
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
            if layer.kind == "doubling":
                frames, spoilt = 2 * frames - 1, 2 * spoilt - 1
        else:
            return latents
        latents += 1


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
            cells *= 4
    return numbers


def _forward_flops(network: Transformer, tokens: int, text: int) -> int:
    width = network.num_attention_heads * network.attention_head_dim
    projections = 6 * tokens * width**2 + 2 * text * width**2
    scores, between = 2 * tokens * (tokens + text) * width, 8 * tokens * width**2
    return 2 * network.num_layers * (projections + scores + between)
