"""What can be known of a Latte folder before its weights are loaded (Ma et al., 2024, arXiv 2401.03048).

The layout is the hub's, as `diffusers.LattePipeline.save_pretrained` writes it.
"""

from pathlib import Path
from typing import Any

from longtake.errors import CheckpointError, InputError
from longtake.model import PerFrameNoise, TemporalHooks, VideoSpec
from longtake.models.hub.files import read_json
from longtake.models.hub.folder import (
    Extras,
    Layout,
    count_parameters,
    part_folders,
    read_extras,
    refuse_extras,
)

LATTE = Layout(
    pipeline="LattePipeline",
    networks={"transformer": "LatteTransformer3DModel", "vae": "AutoencoderKL", "text_encoder": "T5EncoderModel"},
)


def latte_spec(folder: Path) -> VideoSpec:
    """Return the spec of the model in a folder.

    Raises InputError for a model of another kind, CheckpointError for missing or broken files.
    """
    parts = part_folders(folder, LATTE)
    network, vae = (read_json(parts[name] / "config.json") for name in ("transformer", "vae"))
    where = parts["transformer"] / "config.json"
    if network.get("norm_type") != "ada_norm_single":
        raise InputError(f"{where}: norm_type is {network.get('norm_type')!r}; longtake runs ada_norm_single")
    size, patch, channels = (_count(network, name, where) for name in ("sample_size", "patch_size", "in_channels"))
    if network.get("out_channels", channels) not in (channels, 2 * channels):
        raise CheckpointError(f"{where}: out_channels cannot be {network['out_channels']!r}; fetch the model again")
    # The library's own number of frames where the file names none.
    num_frames = _count({"video_length": 16} | network, "video_length", where)
    defaults = Extras(guidance=7.5, num_frames=num_frames)
    extras = read_extras(folder, defaults)
    refuse_extras(folder, extras, defaults, ("num_frames", "clean_frames", "size", "told_fps", "infill_guidance"))
    blocks = vae.get("block_out_channels")
    stride = 2 ** (len(blocks) - 1 if isinstance(blocks, list) else 3)
    width = _count(network, "num_attention_heads", where) * _count(network, "attention_head_dim", where)
    layers = _count(network, "num_layers", where)
    return VideoSpec(
        name=folder.resolve().name,
        num_frames=num_frames,
        height=size * stride,
        width=size * stride,
        fps=extras.fps,
        latent_shape=(channels, num_frames, size, size),
        guidance=extras.guidance,
        capabilities=frozenset({PerFrameNoise, TemporalHooks}),
        vocabulary=None if extras.vocabulary is None else frozenset(extras.vocabulary),
        parameters=count_parameters(parts, LATTE),
        forward_flops=extras.forward_flops,
        decode_flops=extras.decode_flops,
        temporal_layers=(("attention", width, (size // patch) ** 2),) * layers,
    )


def _count(config: dict[str, Any], name: str, where: Path) -> int:
    value = config.get(name)
    if type(value) is not int or value < 1:
        raise CheckpointError(f"{where}: {name} cannot be {value!r}; fetch the model again")
    return value
