"""What can be known of a folder of the Wan family before its weights are loaded (Wan Team, 2025, arXiv 2503.20314).

The layout is the hub's, as `diffusers.WanPipeline.save_pretrained` writes it: Wan2.1 T2V 1.3B and 14B, Wan2.2 TI2V 5B.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtake.errors import CheckpointError, InputError
from longtake.model import PerFrameNoise, TemporalHooks, VideoSpec
from longtake.models.hub.files import read_json
from longtake.models.hub.folder import Extras, Layout, count_parameters, part_folders, read_extras

WAN = Layout(
    pipeline="WanPipeline",
    networks={"transformer": "WanTransformer3DModel", "vae": "AutoencoderKLWan", "text_encoder": "UMT5EncoderModel"},
)
TEXT_TOKENS = 512
"""Tokens of a prompt, to which the stock pipeline cuts or pads it."""

# What the authors' examples use: 81 frames at 16 per second; the 5B model of Wan2.2 makes 121 at 24 per second.
NATIVE = Extras(fps=16.0, guidance=5.0, num_frames=21, size=[480, 832])
NATIVE_5B = Extras(fps=24.0, guidance=5.0, num_frames=31, size=[704, 1280])


@dataclass(frozen=True)
class _Config:
    """The config.json of a part."""

    path: Path
    content: dict[str, Any]

    @classmethod
    def of(cls, part: Path) -> "_Config":
        path = part / "config.json"
        return cls(path, read_json(path))

    def count(self, name: str, default: int) -> int:
        value = self.content.get(name, default)
        if type(value) is not int or value < 1:
            raise self.error(name, value)
        return value

    def error(self, name: str, value: object) -> CheckpointError:
        return CheckpointError(f"{self.path}: {name} cannot be {value!r}; fetch the model again")


def wan_spec(folder: Path) -> VideoSpec:
    """Return the spec of the model in a folder.

    Raises InputError for a model of another kind or a size that does not fit it, CheckpointError for missing or broken
    files.
    """
    parts = wan_folders(folder)
    extras, (height, width) = _extras(folder)
    transformer, vae = _Config.of(parts["transformer"]), _Config.of(parts["vae"])
    stride, channels = vae.count("scale_factor_spatial", 8), vae.count("z_dim", 16)
    patch = _patch(transformer)
    if height % (stride * patch) or width % (stride * patch):
        raise InputError(f"{folder}: {height} x {width} pixels do not fit; both must be multiples of {stride * patch}")
    _check_network(transformer, channels, extras.num_frames)
    tokens = height * width // (stride * patch) ** 2
    inner = transformer.count("num_attention_heads", 40) * transformer.count("attention_head_dim", 128)
    layers, ffn = transformer.count("num_layers", 40), transformer.count("ffn_dim", 13824)
    return VideoSpec(
        name=folder.resolve().name,
        num_frames=extras.num_frames,
        height=height,
        width=width,
        fps=extras.fps,
        latent_shape=(channels, extras.num_frames, height // stride, width // stride),
        temporal_stride=vae.count("scale_factor_temporal", 4),
        decoder_history=decoder_history(vae.count("num_res_blocks", 2), _doubled(vae)),
        guidance=extras.guidance,
        capabilities=frozenset({PerFrameNoise, TemporalHooks}),
        clean_frames=extras.clean_frames,
        vocabulary=None if extras.vocabulary is None else frozenset(extras.vocabulary),
        parameters=count_parameters(parts, WAN),
        forward_flops=extras.forward_flops or layers * layer_flops(extras.num_frames * tokens, inner, ffn),
        decode_flops=extras.decode_flops,
        temporal_layers=(("attention", inner, tokens),) * layers,
    )


def wan_folders(folder: Path) -> dict[str, Path]:
    """Return where each part of the model lies.

    Raises InputError for a model of another kind, CheckpointError where a part is missing.
    """
    if read_json(folder / "model_index.json").get("transformer_2") not in (None, [None, None]):
        raise InputError(
            f"{folder} has two transformers, one for each end of the noise, which longtake does not run; "
            "use Wan2.1 T2V or Wan2.2 TI2V 5B"
        )
    return part_folders(folder, WAN)


def flow_shift(scheduler: Path) -> float:
    """Return the shift of the noise levels, from the folder of the scheduler: 3 at 480p and 5 at 720p by custom.

    Raises InputError for a scheduler whose levels do not follow from it, CheckpointError for a broken file.
    """
    path = scheduler / "scheduler_config.json"
    config = read_json(path)
    is_flow = config.get("prediction_type", "flow_prediction") == "flow_prediction"
    if not is_flow or config.get("use_dynamic_shifting", False):
        raise InputError(f"{path} is not of a flow with a constant shift, which longtake runs Wan with")
    shift = config.get("flow_shift", config.get("shift", 3.0))
    if type(shift) not in (int, float) or not shift > 0:
        raise CheckpointError(f"{path}: the shift cannot be {shift!r}; fetch the model again")
    return float(shift)


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


def layer_flops(tokens: int, width: int, ffn: int) -> int:
    """Return the floating-point operations of one transformer block on so many tokens of all frames together."""
    projections = 6 * tokens * width**2 + 2 * TEXT_TOKENS * width**2
    scores = 2 * tokens * (tokens + TEXT_TOKENS) * width
    return 2 * (projections + scores + 2 * tokens * width * ffn)


def _extras(folder: Path) -> tuple[Extras, list[int]]:
    """Return what longtake.json says, else what suits the model; its size once more, as one that is there."""
    is_5b = bool(read_json(folder / "model_index.json").get("expand_timesteps", False))
    extras = read_extras(folder, NATIVE_5B if is_5b else NATIVE)
    assert extras.size
    return extras, extras.size


def _patch(transformer: _Config) -> int:
    """Return the side of the square of latent cells that is one token."""
    patch = transformer.content.get("patch_size", [1, 2, 2])
    if not isinstance(patch, list) or len(patch) != 3 or patch[0] != 1 or patch[1] != patch[2]:
        raise transformer.error("patch_size", patch)
    side = patch[1]
    if type(side) is not int or side < 1:
        raise transformer.error("patch_size", patch)
    return side


def _doubled(vae: _Config) -> list[bool]:
    """Return which of the autoencoder's changes of size are over time, too, from the picture to the latents."""
    doubled = vae.content.get("temperal_downsample", [False, True, True])
    if not isinstance(doubled, list) or not all(type(value) is bool for value in doubled):
        raise vae.error("temperal_downsample", doubled)
    return doubled


def _check_network(transformer: _Config, channels: int, num_frames: int) -> None:
    given = transformer.count("in_channels", 16)
    if given != channels:
        raise InputError(
            f"{transformer.path} takes {given} channels where the latents have {channels}: it needs a picture beside "
            "the prompt; use a text-to-video model"
        )
    longest = transformer.count("rope_max_seq_len", 1024)
    if num_frames > longest:
        raise InputError(f"{transformer.path} has positions for {longest} frames, not {num_frames}; lower num_frames")
