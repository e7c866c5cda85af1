"""What can be known of an AnimateDiff folder with SparseCtrl before its weights are loaded.

The layout is the hub's, as `diffusers.AnimateDiffSparseControlNetPipeline.save_pretrained` writes it; its
motion_adapter is not read, since the UNet holds the same weights.
"""

from pathlib import Path

from longtake.errors import CheckpointError, InputError
from longtake.model import Continuation, Infill, VideoSpec
from longtake.models.hub.files import read_json
from longtake.models.hub.folder import (
    EXTRAS,
    Extras,
    Layout,
    config_value,
    count_parameters,
    part_folders,
    read_extras,
    refuse_extras,
    sample_size,
)

SPARSECTRL = Layout(
    pipeline="AnimateDiffSparseControlNetPipeline",
    networks={
        "unet": "UNetMotionModel",
        "controlnet": "SparseControlNetModel",
        "vae": "AutoencoderKL",
        "text_encoder": "CLIPTextModel",
    },
)
DEFAULTS = Extras(guidance=7.5)
MOST_FRAMES = 32
"""Positions in time that the library's networks have where their files name no number."""


def sparsectrl_spec(folder: Path) -> VideoSpec:
    """Return the spec of the model in a folder.

    Raises InputError for a model of another kind or more frames than it has positions for, CheckpointError for missing
    or broken files.
    """
    parts, extras = part_folders(folder, SPARSECTRL), read_extras(folder, DEFAULTS)
    refuse_extras(folder, extras, DEFAULTS, ("clean_frames", "size", "told_fps"))
    unet, control, vae = (read_json(parts[name] / "config.json") for name in ("unet", "controlnet", "vae"))
    most = min(part.get("motion_max_seq_length", MOST_FRAMES) for part in (unet, control))
    if extras.num_frames > most:
        raise InputError(f"{folder / EXTRAS}: num_frames {extras.num_frames} is more than the {most} positions in time")
    if not control.get("use_simplified_condition_embedding", True):
        raise InputError(
            f"{parts['controlnet']} is controlled by drawings; longtake needs one that is given frames (sparsectrl-rgb)"
        )
    channels = config_value(unet, "in_channels", int, parts["unet"])
    if control.get("conditioning_channels", 4) != channels:
        raise CheckpointError(f"{parts['controlnet']} is made for other latents than those of {parts['unet']}")
    stride = 2 ** (len(config_value(vae, "block_out_channels", list, parts["vae"])) - 1)
    height, width = sample_size(unet, parts["unet"])
    return VideoSpec(
        name=folder.resolve().name,
        num_frames=extras.num_frames,
        height=height * stride,
        width=width * stride,
        fps=extras.fps,
        latent_shape=(channels, extras.num_frames, height, width),
        guidance=extras.guidance,
        infill_guidance=extras.infill_guidance,
        capabilities=frozenset({Infill, Continuation}),
        vocabulary=None if extras.vocabulary is None else frozenset(extras.vocabulary),
        parameters=count_parameters(parts, SPARSECTRL),
        forward_flops=extras.forward_flops,
        decode_flops=extras.decode_flops,
    )
