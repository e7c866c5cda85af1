"""What can be known of Latte before its weights are loaded (Ma et al., 2024, arXiv 2401.03048). Imports no torch."""

from dataclasses import dataclass

from longtake.errors import InputError
from longtake.model import LongNegative, PerFrameNoise, TemporalHooks, VideoSpec
from longtake.models.hub.configs import Configs, Count, Length
from longtake.models.hub.family import Offer
from longtake.models.image_spec import Denoiser, image_spec

TEXT_TOKENS = 120
"""Tokens of a prompt; what is longer is cut (as in diffusers' pipeline)."""


OFFERS = (
    Offer(
        models="Latte",
        page="models/latte.md",
        capabilities=frozenset({PerFrameNoise, TemporalHooks}),
        trained="one level and one prompt a clip",
        extrapolated="a level or a prompt a frame; clips that see each other",
    ),
)
"""Rows of the table of what runs on what."""


@dataclass(frozen=True, kw_only=True)
class Transformer(Denoiser):
    """What is read of the config of LatteTransformer3DModel; the defaults are the library's."""

    sample_size: Count
    patch_size: Count
    num_attention_heads: Count
    attention_head_dim: Count
    num_layers: Count
    norm_type: str
    out_channels: Count | None = None
    video_length: Length = 16


def spec(configs: Configs) -> VideoSpec:
    """Return the spec of a model.

    Raises InputError for one of another build, CheckpointError for broken configs.
    """
    part = configs.parts["transformer"]
    network = part.read(Transformer)
    if network.norm_type != "ada_norm_single":
        raise InputError(f"{part.where}: norm_type is {network.norm_type!r}; longtake runs ada_norm_single")
    if network.out_channels not in (None, network.in_channels, 2 * network.in_channels):
        raise part.error(f"out_channels cannot be {network.out_channels!r}")
    extras = configs.told(("vocabulary",), guidance=7.5, num_frames=network.video_length)
    width, cells = (
        network.num_attention_heads * network.attention_head_dim,
        (network.size[0] // network.patch_size) ** 2,
    )
    return image_spec(
        configs,
        extras,
        network,
        {LongNegative, PerFrameNoise, TemporalHooks},
        network="transformer",
        # Counted on fake tensors of the released sizes.
        working=15 * width // network.patch_size**2,
        text_width=None,
        blends=True,
        prompt_tokens=TEXT_TOKENS,
        temporal_layers=(("attention", width, cells),) * network.num_layers,
    )
