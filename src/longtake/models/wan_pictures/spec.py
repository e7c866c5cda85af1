"""What can be known of Wan's transformer on the latents of single pictures before its weights are loaded.

WanTransformer3DModel (Wan Team, 2025, arXiv 2503.20314) with an image autoencoder in place of the causal one and CLIP's
text encoder in place of UMT5, as `train.sprites.assemble` writes it. Imports no torch.
"""

from dataclasses import dataclass

from longtake.errors import CheckpointError
from longtake.model import Continuation, Infill, PerFrameNoise, TemporalHooks, VideoModel, VideoSpec
from longtake.models.hub.configs import EXTRAS, Configs, Count
from longtake.models.image_spec import Denoiser, ImageAutoencoder, image_spec
from longtake.models.wan.spec import Transformer, flow_shift

USES = ("num_frames", "infill_guidance", "clean_frames", "vocabulary")


@dataclass(frozen=True, kw_only=True)
class Pictures(ImageAutoencoder):
    """What is read of the config of AutoencoderKL, its sizes included: the transformer says none."""

    sample_size: Count
    """Pixels per side."""


def spec(configs: Configs) -> VideoSpec:
    """Return the spec of a model.

    Raises InputError for settings that do not fit it, CheckpointError for broken configs.
    """
    extras, part = configs.told(USES, guidance=3.0), configs.parts["transformer"]
    if extras.infill_guidance is not None and not extras.clean_frames:
        raise CheckpointError(
            f"{configs.where}/{EXTRAS}: infill_guidance has no effect without clean_frames; remove it"
        )
    flow_shift(configs)
    network, vae = part.read(Transformer), configs.parts["vae"].read(Pictures)
    side, patch = vae.sample_size // 2 ** (len(vae.block_out_channels) - 1), network.patch_size[1]
    if network.patch_size != (1, patch, patch) or side % patch:
        raise part.error(f"patch_size cannot be {list(network.patch_size)} on latents of {side} x {side}")
    if extras.num_frames > network.rope_max_seq_len:
        raise part.error(f"rope_max_seq_len {network.rope_max_seq_len} is less than {extras.num_frames} frames")
    capabilities: set[type[VideoModel]] = {PerFrameNoise, TemporalHooks}
    if extras.clean_frames:
        capabilities |= {Infill, Continuation}
    inner = network.num_attention_heads * network.attention_head_dim
    return image_spec(
        configs,
        extras,
        Denoiser(sample_size=side, in_channels=network.in_channels),
        capabilities,
        network="transformer",
        blends=True,
        temporal_layers=(("attention", inner, (side // patch) ** 2),) * network.num_layers,
    )
