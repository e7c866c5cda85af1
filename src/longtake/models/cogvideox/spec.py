"""What can be known of CogVideoX 2b and 5b before they are loaded (Yang et al., 2024, arXiv 2408.06072).

Imports no torch.
"""

from dataclasses import dataclass, replace

from longtake.errors import InputError
from longtake.machine import Part
from longtake.model import PerFrameNoise, Timing, VideoSpec
from longtake.models.hub.configs import Configs, Count, TextEncoder
from longtake.models.hub.family import Offer
from longtake.models.image_spec import Halvings, NoiseLevels
from longtake.words import an

FIRST_PIECE, PIECE = 3, 2
"""Latents that the decoder takes together, at the start of a stream and later."""
SCHEDULERS = ("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler")
OFFERS = (
    Offer(
        models="CogVideoX 2b and 5b",
        page="models/cogvideox.md",
        capabilities=frozenset({PerFrameNoise}),
        prompts="window",
        trained="one level and one prompt a clip",
        extrapolated="a level a frame, beside a text that has the mean of them",
    ),
)
"""Rows of the table of what runs on what."""


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """What is read of the config of CogVideoXTransformer3DModel; the defaults are the library's."""

    num_attention_heads: Count = 30
    attention_head_dim: Count = 64
    in_channels: Count = 16
    out_channels: Count = 16
    num_layers: Count = 30
    sample_width: Count = 90
    sample_height: Count = 60
    sample_frames: Count = 49
    """Of the video, whatever the name says."""
    patch_size: Count = 2
    max_text_seq_length: Count = 226
    use_rotary_positional_embeddings: bool = False


@dataclass(frozen=True, kw_only=True)
class Autoencoder(Halvings):
    """What is read of the config of AutoencoderKLCogVideoX; the defaults are the library's."""

    block_out_channels: tuple[Count, ...] = (128, 256, 256, 512)
    latent_channels: Count = 16
    layers_per_block: Count = 3
    temporal_compression_ratio: Count = 4


def spec(configs: Configs) -> VideoSpec:
    """Return the spec of a model.

    Raises InputError for a model of another kind or a size that does not fit it, CheckpointError for broken configs.
    """
    part = configs.parts["transformer"]
    network, vae = part.read(Transformer), configs.parts["vae"].read(Autoencoder)
    if not network.in_channels == network.out_channels == vae.latent_channels:
        raise part.error(
            f"in_channels {network.in_channels} and out_channels {network.out_channels} do not fit the "
            f"{vae.latent_channels} channels of the latents (vae)"
        )
    stride, timing = vae.stride, _timing(network, vae)
    extras = configs.told(
        ("num_frames", "size"),
        guidance=6.0,
        num_frames=timing.latent_frames(network.sample_frames),
        size=[network.sample_height * stride, network.sample_width * stride],
    )
    unit = stride * network.patch_size
    height, width = configs.picture_size(extras, unit)
    configs.check_window(extras.num_frames, timing)
    levels, text = configs.parts["scheduler"], configs.parts["text_encoder"]
    if (kind := levels.config.get("_class_name")) not in SCHEDULERS:
        raise InputError(f"{levels.where} is {an(kind)}; CogVideoX runs with {' or '.join(map(an, SCHEDULERS))}")
    cells, inner = height * width // stride**2, network.num_attention_heads * network.attention_head_dim
    tokens = network.max_text_seq_length + extras.num_frames * cells // network.patch_size**2
    remembered = remembered_numbers(vae, cells)
    return VideoSpec(
        name=configs.name,
        num_frames=extras.num_frames,
        height=height,
        width=width,
        fps=extras.fps,
        latent_shape=(vae.latent_channels, extras.num_frames, height // stride, width // stride),
        timing=timing,
        decoder_history=decoder_history(vae),
        decoder_piece=PIECE,
        guidance=extras.guidance,
        capabilities=frozenset({PerFrameNoise}),
        prompts="window",
        num_levels=levels.read(NoiseLevels).num_train_timesteps,
        # 2b, which adds its positions, was released in the one, 5b in the other.
        released="bfloat16" if network.use_rotary_positional_embeddings else "float16",
        parameters=configs.parameters,
        prompt_tokens=network.max_text_seq_length,
        prompt_numbers=network.max_text_seq_length * text.read(TextEncoder).d_model,
        text_encoder=Part(parameters=text.parameters),
        # Counted on fake tensors of the released sizes, as what the decoder works with.
        network=Part(working=tokens * (13 if network.use_rotary_positional_embeddings else 12) * inner),
        decoder=Part(
            parameters=configs.parts["vae"].parameters,
            # What is remembered next is made while the last is there.
            working=remembered + 11 * vae.block_out_channels[0] * PIECE * timing.stride * height * width,
            remembered=remembered,
        ),
        forward_flops=extras.forward_flops or _forward_flops(network, tokens),
        decode_flops=extras.decode_flops,
    )


def _timing(network: Transformer, vae: Autoencoder) -> Timing:
    """Return the windows that a network takes: any with rotary positions; with those that are added, up to its own."""
    timing = Timing(stride=vae.temporal_compression_ratio)
    if network.use_rotary_positional_embeddings:
        return timing
    return replace(timing, window_lengths=range(1, timing.latent_frames(network.sample_frames) + 1))


def decoder_history(vae: Autoencoder) -> int:
    """Return how many of the last latents decide what the decoder remembers: 77 at the depth that was released.

    Every convolution over time remembers the last frames that it was given. They hang on all of their piece, over which
    norms are taken, and on the piece before by each convolution on the way: so there must be as many pieces as these.
    """
    entry, middle, leaving = 1, 2 * 2, 1
    convolutions = entry + middle + 2 * (vae.layers_per_block + 1) * len(vae.block_out_channels) + leaving
    return FIRST_PIECE + PIECE * (convolutions - 1)


def remembered_numbers(vae: Autoencoder, cells: int) -> int:
    """Return how many numbers the decoder remembers where a latent has so many cells: two frames of what enters every
    convolution over time, and a latent that waits for the rest of its piece."""
    channels = vae.block_out_channels[::-1]
    numbers = 3 * cells * vae.latent_channels + 2 * cells * 4 * channels[0]
    for entering, leaving in zip((channels[0], *channels), channels, strict=False):
        numbers += 2 * cells * (entering + leaving * (2 * vae.layers_per_block + 1))
        cells *= 4
    return numbers + 2 * cells // 4 * channels[-1]


def _forward_flops(network: Transformer, tokens: int) -> int:
    width = network.num_attention_heads * network.attention_head_dim
    projections, scores, between = 4 * tokens * width**2, 2 * tokens**2 * width, 8 * tokens * width**2
    return 2 * network.num_layers * (projections + scores + between)
