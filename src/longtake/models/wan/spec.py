"""What can be known of the Wan family before its weights are loaded (Wan Team, 2025, arXiv 2503.20314).

Wan2.1 T2V, I2V, FLF2V and VACE, Wan2.2 T2V and I2V A14B and TI2V 5B, and SkyReels-V2 (Chen et al., 2025, arXiv
2504.13074), which is Wan2.1 trained on; whatever pipeline saved them. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

from annotated_types import Gt, Lt

from longtake.errors import CheckpointError, InputError
from longtake.machine import Part
from longtake.model import Continuation, Infill, PerFrameNoise, TemporalHooks, Timing, VideoModel, VideoSpec
from longtake.models.hub.configs import Configs, Count, Length, Positive, TextEncoder
from longtake.models.hub.configs import Part as Config
from longtake.models.hub.family import Offer
from longtake.models.hub.find import INDEX
from longtake.request import GuidanceByLevel

Kind = Literal["text", "pictures", "vace"]
"""What a network is given beside the noise: nothing, or known frames, in channels or in blocks of their own."""

TEXT_TOKENS = 512
"""Tokens of a prompt, to which the stock pipeline cuts or pads it."""

# What the authors' examples use: 81 frames at 16 per second; the 5B model of Wan2.2 makes 121 at 24 per second.
NATIVE: dict[str, Any] = {"fps": 16.0, "guidance": 5.0, "num_frames": 21, "size": [480, 832]}
EXPERTS: dict[Kind, tuple[float, float]] = {"text": (4.0, 3.0), "pictures": (3.5, 3.5), "vace": (5.0, 5.0)}
"""Guidance of the expert for much noise, and of that for little, by Wan2.2's authors."""
NATIVE_5B: dict[str, Any] = {"fps": 24.0, "guidance": 5.0, "num_frames": 31, "size": [704, 1280]}

NATIVE_SKYREELS: dict[str, Any] = {"fps": 24.0, "guidance": 6.0, "num_frames": 25, "size": [544, 960]}
SKYREELS_SHIFT = 8.0
"""Of the noise levels, by SkyReels' authors, who set it at every run: their folders say none, which is written as 1."""

DISTILLED: dict[str, dict[str, Any]] = {"WanDMDPipeline": {"guidance": 1.0, "sigmas": [1.0, 0.757, 0.522]}}
"""What folders of FastWan hold by the name of their pipeline alone (FastVideo's `dmd_denoising_steps` over 1000)."""


OFFERS = (
    Offer(
        models="Wan2.1 T2V, Wan2.2 T2V A14B",
        page="models/wan.md",
        capabilities=frozenset({PerFrameNoise, TemporalHooks}),
        trained="one level and one prompt a clip",
        extrapolated="a level or a prompt a frame; clips that see each other; windows of both experts",
    ),
    Offer(
        models="Wan2.2 TI2V 5B",
        page="models/wan.md",
        capabilities=frozenset({PerFrameNoise, TemporalHooks, Continuation}),
        trained="one level and one prompt a clip, a first picture",
        extrapolated="a level or a prompt a frame; clips that see each other",
    ),
    Offer(
        models="Wan2.1 I2V",
        page="models/wan.md",
        capabilities=frozenset({PerFrameNoise, Continuation}),
        trained="one level and one prompt a clip, a first picture",
        extrapolated="a level or a prompt a frame; windows without a picture",
    ),
    Offer(
        models="Wan2.1 FLF2V",
        page="models/wan.md",
        capabilities=frozenset({PerFrameNoise, Infill}),
        trained="one level and one prompt a clip, a first and a last picture",
        extrapolated="a level or a prompt a frame; windows without pictures; frames farther apart",
    ),
    Offer(
        models="Wan2.2 I2V A14B",
        page="models/wan.md",
        capabilities=frozenset({PerFrameNoise, Infill, Continuation}),
        trained="one level and one prompt a clip, a first picture",
        extrapolated="a last picture; a level or a prompt a frame; windows without a picture",
    ),
    Offer(
        models="Wan2.1 VACE",
        page="models/wan.md",
        capabilities=frozenset({Infill, Continuation}),
        trained="one level and one prompt a clip, any known frames",
        extrapolated="a prompt a frame; frames farther apart",
    ),
    Offer(
        models="SkyReels-V2 DF",
        page="models/skyreels.md",
        capabilities=frozenset({PerFrameNoise, TemporalHooks, Continuation}),
        trained="a level a frame, clean frames, one prompt a clip",
        extrapolated="a prompt a frame; clips that see each other",
    ),
    Offer(
        models="SkyReels-V2 T2V",
        page="models/skyreels.md",
        capabilities=frozenset({PerFrameNoise, TemporalHooks}),
        trained="one level and one prompt a clip",
        extrapolated="a level or a prompt a frame; clips that see each other",
    ),
)
"""Rows of the table of what runs on what."""


@dataclass(frozen=True, kw_only=True)
class Index:
    """What is read of model_index.json beside the parts; the defaults are the library's."""

    boundary_ratio: Annotated[float, Gt(0), Lt(1)] | None = None
    expand_timesteps: bool = False


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """What is read of the config of WanTransformer3DModel; the defaults are the library's."""

    in_channels: Count = 16
    num_attention_heads: Count = 40
    attention_head_dim: Count = 128
    num_layers: Count = 40
    ffn_dim: Count = 13824
    rope_max_seq_len: Length = 1024
    patch_size: tuple[Count, Count, Count] = (1, 2, 2)
    image_dim: Count | None = None
    """Width of what CLIP sees in pictures, for networks that attend to it."""
    pos_embed_seq_len: Count | None = None
    """Set where it sees two of them."""
    vace_layers: tuple[int, ...] = ()
    """Layers beside which VACE has blocks of its own."""
    vace_in_channels: Count = 96
    num_frame_per_block: Count = 1
    """Frames of SkyReels-V2 that see each other and what is before them, and nothing after; 1 lets all see all."""


@dataclass(frozen=True, kw_only=True)
class Autoencoder:
    """What is read of the config of AutoencoderKLWan; the defaults are the library's."""

    z_dim: Count = 16
    scale_factor_spatial: Count = 8
    scale_factor_temporal: Count = 4
    num_res_blocks: Count = 2
    temperal_downsample: tuple[bool, ...] = (False, True, True)
    base_dim: Count = 96
    decoder_base_dim: Count | None = None
    dim_mult: tuple[Count, ...] = (1, 2, 4, 4)
    is_residual: bool = False


@dataclass(frozen=True, kw_only=True)
class Scheduler:
    """What is read of the config of any scheduler."""

    prediction_type: str = "flow_prediction"
    use_dynamic_shifting: bool = False
    flow_shift: Positive | None = None
    shift: Positive = 3.0


def spec(configs: Configs) -> VideoSpec:
    """Return the spec of a model.

    Raises InputError for a model of another kind or a size that does not fit it, CheckpointError for broken configs.
    """
    is_5b = _index(configs).expand_timesteps
    native = NATIVE_SKYREELS if _is_skyreels(configs) else NATIVE_5B if is_5b else NATIVE
    native = native | {"clean_frames": is_forced(configs)} | DISTILLED.get(_pipeline(configs), {})
    extras = configs.told(("num_frames", "size", "clean_frames", "vocabulary", "sigmas"), **native)
    shift, at, sigmas = flow_shift(configs), boundary(configs), configs.distilled(extras.sigmas)
    network, vae = configs.parts["transformer"].read(Transformer), configs.parts["vae"].read(Autoencoder)
    if network.patch_size[0] != 1 or network.patch_size[1] != network.patch_size[2]:
        raise configs.parts["transformer"].error(f"patch_size cannot be {list(network.patch_size)}")
    stride, unit = vae.scale_factor_spatial, vae.scale_factor_spatial * network.patch_size[1]
    height, width = configs.picture_size(extras, unit)
    if len(vae.dim_mult) != len(vae.temperal_downsample) + 1:
        raise configs.parts["vae"].error(f"dim_mult {list(vae.dim_mult)} does not fit temperal_downsample")
    timing = Timing(stride=vae.scale_factor_temporal, window_lengths=range(1, network.rope_max_seq_len + 1))
    configs.check_window(extras.num_frames, timing)
    kind = kind_of(configs)
    _check_parts(configs, network, kind)
    tokens, inner = height * width // unit**2, network.num_attention_heads * network.attention_head_dim
    layers = network.num_layers + len(network.vace_layers)
    flops = layers * layer_flops(extras.num_frames * tokens, inner, network.ffn_dim)
    return VideoSpec(
        name=configs.name,
        num_frames=extras.num_frames,
        height=height,
        width=width,
        fps=extras.fps,
        latent_shape=(vae.z_dim, extras.num_frames, height // stride, width // stride),
        timing=timing,
        decoder_history=decoder_history(vae.num_res_blocks, vae.temperal_downsample),
        guidance=extras.guidance if at is None or "guidance" in configs.extras else GuidanceByLevel(*EXPERTS[kind], at),
        capabilities=_capabilities(kind, network, is_5b or is_forced(configs)),
        sigmas=sigmas,
        known="pixel",
        continues_from=1 if is_5b or kind == "pictures" else None,
        needs_pictures=kind == "pictures",
        blends=True,
        clean_frames=extras.clean_frames,
        vocabulary=None if extras.vocabulary is None else frozenset(extras.vocabulary),
        released="bfloat16",
        parameters=configs.parameters,
        prompt_tokens=TEXT_TOKENS,
        prompt_numbers=TEXT_TOKENS * configs.parts["text_encoder"].read(TextEncoder).d_model,
        text_encoder=Part(parameters=configs.parts["text_encoder"].parameters),
        image_encoder=_image_encoder(configs),
        network=_network(network, extras.num_frames * tokens, 1 if at is None else 2),
        decoder=_decoder(vae, configs.parts["vae"].parameters, height // stride, width // stride),
        experts_meet=0.0 if at is None else _meeting(at / 1000, shift, sigmas),
        forward_flops=extras.forward_flops or flops,
        decode_flops=extras.decode_flops,
        temporal_layers=(("attention", inner, tokens),) * network.num_layers,
    )


def _network(network: Transformer, tokens: int, experts: int) -> Part:
    """Return what a window of so many tokens takes, as counted on fake tensors of the released sizes: that many numbers
    for every token, in the attention of a layer or in what follows it, and beside them its own modulation; and, which
    counts in small windows, those of a prompt, its keys and its values."""
    inner = network.num_attention_heads * network.attention_head_dim
    working = tokens * max(20 * inner, 11 * inner + 2 * network.ffn_dim) + TEXT_TOKENS * 3 * inner
    return Part(working=working, wide=tokens * 6 * inner, turns=experts)


def _image_encoder(configs: Configs) -> Part:
    part = configs.parts.get("image_encoder")
    return Part() if part is None else Part(parameters=part.parameters, width=4)


def boundary(configs: Configs) -> float | None:
    """Return the timestep at which the expert for much noise takes over from that for little; None for a model of one.

    Raises CheckpointError where the index and the parts disagree.
    """
    ratio, has_two = _index(configs).boundary_ratio, "transformer_2" in configs.parts
    if has_two != (ratio is not None):
        said = "no boundary_ratio for" if has_two else "a boundary_ratio without"
        raise CheckpointError(f"{configs.where}/{INDEX} has {said} a transformer_2; fetch the model again")
    return None if ratio is None else 1000 * ratio


def _meeting(noise: float, shift: float, sigmas: Sequence[float]) -> float:
    """Return the share of the levels below that of this share of noise, where they have this shift, or lie along the
    line through these."""
    for number, (below, above) in enumerate(pairwise((0.0, *sigmas))):
        if noise <= above:
            return (number + (noise - below) / (above - below)) / len(sigmas)
    return noise / (shift - (shift - 1) * noise)


def flow_shift(configs: Configs) -> float:
    """Return the shift of the noise levels, from the scheduler's config: 3 at 480p and 5 at 720p by custom; 8 for
    SkyReels-V2 if that says none.

    Raises InputError for a scheduler whose levels do not follow from it, CheckpointError for a broken config.
    """
    part = configs.parts["scheduler"]
    read = part.read(Scheduler)
    if read.prediction_type != "flow_prediction" or read.use_dynamic_shifting:
        raise InputError(f"{part.where} is not of a flow with a constant shift, which longtake runs Wan with")
    shift = read.flow_shift or read.shift
    return SKYREELS_SHIFT if _is_skyreels(configs) and shift == 1 else shift


def is_forced(configs: Configs) -> bool:
    """Return whether a network was trained by diffusion forcing, with a noise level for every frame."""
    return _is_skyreels(configs) and "DiffusionForcing" in _pipeline(configs)


def decoder_history(num_res_blocks: int, doubled: Sequence[bool]) -> int:
    """Return how many of the last latents decide what such a decoder remembers: 38 at the depth that was released.

    Every convolution over time remembers the last two frames that it was given, and each of these hangs on two more
    before it. Counted from the picture back to the latents. `doubled` says, in that order, which of the layers between
    the blocks double the frames, and so hang on half as many.
    """
    block = 2 * 2 * (num_res_blocks + 1)
    frames = 2 + block
    for is_doubled in doubled:
        if is_doubled:
            frames = -(-frames // 2) + 2
        frames += block
    middle, entry = 2 * 2 * 2, 2
    return frames + middle + entry


def remembered_numbers(vae: Autoencoder, height: int, width: int) -> int:
    """Return how many numbers a decoder remembers: two frames of what enters every convolution over time.

    `height` and `width` are those of the latents.
    """
    base = vae.decoder_base_dim or vae.base_dim
    steps = [base * multiple for multiple in (vae.dim_mult[-1], *vae.dim_mult[::-1])]
    cells = height * width
    numbers = 2 * cells * (vae.z_dim + 4 * steps[0])
    upsampled = [*vae.temperal_downsample[::-1], None]
    for number, (entering, leaving, is_doubled) in enumerate(zip(steps[:-1], steps[1:], upsampled, strict=True)):
        first = entering if vae.is_residual or not number else entering // 2
        entered = first + leaving * (2 * vae.num_res_blocks + 1) + (leaving if is_doubled else 0)
        numbers += 2 * cells * entered
        cells *= 1 if is_doubled is None else 4
    return numbers + 2 * cells * steps[-1]


def _decoder(vae: Autoencoder, parameters: int, height: int, width: int) -> Part:
    """Return what the decoder takes where latents have so many cells."""
    cells = height * width * 4 ** len(vae.temperal_downsample)
    return Part(
        parameters=parameters,
        # Counted on fake tensors of the released sizes.
        working=(56 if vae.is_residual else 26) * (vae.decoder_base_dim or vae.base_dim) * cells,
        remembered=remembered_numbers(vae, height, width),
        width=4,
    )


def layer_flops(tokens: int, width: int, ffn: int) -> int:
    """Return the floating-point operations of one transformer block on so many tokens of all frames together."""
    projections = 6 * tokens * width**2 + 2 * TEXT_TOKENS * width**2
    scores = 2 * tokens * (tokens + TEXT_TOKENS) * width
    return 2 * (projections + scores + 2 * tokens * width * ffn)


def kind_of(configs: Configs) -> Kind:
    """Return what the network is given beside the noise, by its channels. Raises InputError for another number."""
    part, vae = configs.parts["transformer"], configs.parts["vae"].read(Autoencoder)
    network, latents, mask = part.read(Transformer), vae.z_dim, vae.scale_factor_temporal
    channels = network.in_channels
    if part.config["_class_name"] == "WanVACETransformer3DModel":
        wanted = (latents, 2 * latents + vae.scale_factor_spatial**2)
        if (channels, network.vace_in_channels) != wanted:
            raise part.error(f"in_channels and vace_in_channels are not {wanted[0]} and {wanted[1]}")
        return "vace"
    if channels not in (latents, 2 * latents + mask):
        raise InputError(
            f"{part.where}: in_channels {channels}: the network takes {channels} channels where the latents have "
            f"{latents}, neither as many (text to video) nor {2 * latents + mask} (picture to video); use another model"
        )
    return "text" if channels == latents else "pictures"


def _capabilities(kind: Kind, network: Transformer, goes_on: bool) -> frozenset[type[VideoModel]]:
    if kind == "text":
        return frozenset({PerFrameNoise, TemporalHooks, *([Continuation] if goes_on else [])})
    if kind == "vace":
        return frozenset({Infill, Continuation})
    # What attends to CLIP's picture of both ends needs both, what attends to one only that.
    ends = {Infill} if network.pos_embed_seq_len else {Continuation} if network.image_dim else {Infill, Continuation}
    return frozenset({PerFrameNoise, *ends})


def _check_parts(configs: Configs, network: Transformer, kind: Kind) -> None:
    where = configs.parts["transformer"].where
    if _is_skyreels(configs) and kind == "pictures":
        raise InputError(
            f"{where} is SkyReels-V2 I2V, which longtake does not run; SkyReels-V2 DF goes on from a picture, too"
        )
    if network.num_frame_per_block > 1:
        raise InputError(
            f"{where}: num_frame_per_block {network.num_frame_per_block}: frames that must not see later ones are not "
            "run by longtake; set it to 1, as the released networks have it"
        )
    if (other := configs.parts.get("transformer_2")) and other.read(Transformer) != network:
        raise other.error(f"it is of other sizes than {where}")
    lacking = {"image_encoder", "image_processor"} - configs.parts.keys()
    if kind == "pictures" and network.image_dim and lacking:
        raise CheckpointError(f"{configs.where} lacks {sorted(lacking)[0]}, which its network needs; fetch it again")


def _is_skyreels(configs: Configs) -> bool:
    return configs.parts["transformer"].config.get("_class_name") == "SkyReelsV2Transformer3DModel"


def _pipeline(configs: Configs) -> str:
    return str(configs.index.get("_class_name"))


def _index(configs: Configs) -> Index:
    return Config(where=f"{configs.where}/{INDEX}", config=configs.index, shapes=dict).read(Index)
