"""What can be known of Stable Video Diffusion before its weights are loaded (Blattmann et al., 2023, arXiv 2311.15127).

Imports no torch.
"""

from dataclasses import dataclass
from typing import Any

from longtake.errors import InputError
from longtake.machine import Part
from longtake.model import Continuation, VideoSpec
from longtake.models.hub.configs import WHOLE_STREAM, Configs, Count
from longtake.models.hub.family import Offer

NATIVE: dict[str, Any] = {"fps": 7.0, "guidance": 3.0, "size": [576, 1024]}
"""What the stock pipeline uses; its guidance rises from 1 at the first frame of a window to this at the last."""
OFFERS = (
    Offer(
        models="Stable Video Diffusion",
        page="models/svd.md",
        capabilities=frozenset({Continuation}),
        trained="a clip from one picture, one level a clip; no text",
        extrapolated="a picture that it has made itself; no picture",
    ),
)
"""Rows of the table of what runs on what."""


@dataclass(frozen=True, kw_only=True)
class Unet:
    """What is read of the config of UNetSpatioTemporalConditionModel; the defaults are the library's."""

    num_frames: Count = 25
    in_channels: Count = 8
    out_channels: Count = 4
    block_out_channels: tuple[Count, ...] = (320, 640, 1280, 1280)


@dataclass(frozen=True, kw_only=True)
class Autoencoder:
    """What is read of the config of AutoencoderKLTemporalDecoder; the defaults are the library's."""

    block_out_channels: tuple[Count, ...] = (64,)
    latent_channels: Count = 4


def spec(configs: Configs) -> VideoSpec:
    """Return the spec of a model.

    The guidance is the model's own, since it is between a picture and none: samplers are told of none. Raises
    InputError for a model of another kind or a size that does not fit it, CheckpointError for broken configs.
    """
    network, vae = configs.parts["unet"].read(Unet), configs.parts["vae"].read(Autoencoder)
    extras = configs.told(("num_frames", "size"), **NATIVE | {"num_frames": network.num_frames})
    levels = configs.parts["scheduler"]
    kind = tuple(levels.config.get(name) for name in ("_class_name", "prediction_type"))
    if kind != ("EulerDiscreteScheduler", "v_prediction"):
        raise InputError(f"{levels.where} is no EulerDiscreteScheduler of v_prediction, which longtake runs SVD with")
    channels = vae.latent_channels
    if (network.in_channels, network.out_channels) != (2 * channels, channels):
        raise configs.parts["unet"].error(f"in_channels {network.in_channels} is not twice the {channels} of a latent")
    stride = 2 ** (len(vae.block_out_channels) - 1)
    # The UNet halves the latents three times.
    height, width = configs.picture_size(extras, 8 * stride)
    return VideoSpec(
        name=configs.name,
        num_frames=extras.num_frames,
        height=height,
        width=width,
        fps=extras.fps,
        latent_shape=(channels, extras.num_frames, height // stride, width // stride),
        known="pixel",
        continues_from=1,
        needs_pictures=True,
        decoder_history=WHOLE_STREAM,
        guidance=1.0,
        capabilities=frozenset({Continuation}),
        vocabulary=frozenset(),
        parameters=configs.parameters,
        image_encoder=Part(parameters=configs.parts["image_encoder"].parameters),
        # Counted on fake tensors of the released sizes: a window of 25 frames of 576 x 1024 is decoded in 60 GB.
        network=Part(working=27 * network.block_out_channels[0] * extras.num_frames * height * width // stride**2),
        decoder=Part(
            parameters=configs.parts["vae"].parameters,
            working=8 * vae.block_out_channels[0] * extras.num_frames * height * width,
            width=4,
        ),
        forward_flops=extras.forward_flops,
        decode_flops=extras.decode_flops,
    )


def last_guidance(configs: Configs) -> float:
    """Return the guidance of the last frame of a window."""
    return configs.told(("num_frames", "size"), **NATIVE).guidance
