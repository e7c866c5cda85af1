"""What can be known of a model of ModelScope's family before its weights are loaded. Imports no torch."""

from dataclasses import dataclass

from longtake.errors import CheckpointError, InputError
from longtake.model import Continuation, Infill, PerFrameNoise, TemporalHooks, ToldFps, VideoModel, VideoSpec
from longtake.models.hub.configs import EXTRAS, Configs, Count, Part
from longtake.models.image_spec import Denoiser, image_spec
from longtake.models.modelscope.temporal_shapes import temporal_layers

USES = ("num_frames", "infill_guidance", "clean_frames", "told_fps", "use_scale", "vocabulary")
FPS_EMBEDDING = tuple(
    f"fps_embedding.{layer}.{kind}" for layer in ("linear_1", "linear_2") for kind in ("weight", "bias")
)
"""VideoCrafter2's tensors beyond UNet3DConditionModel, in the file of the UNet."""


@dataclass(frozen=True, kw_only=True)
class TextEncoder:
    """What is read of the config of CLIPTextModel; the default is the library's."""

    max_position_embeddings: Count = 77


def spec(configs: Configs) -> VideoSpec:
    """Return the spec of a model.

    Raises InputError for settings that do not fit it, CheckpointError for broken configs.
    """
    extras, unet = configs.told(USES), configs.parts["unet"]
    if extras.infill_guidance is not None and not extras.clean_frames:
        raise CheckpointError(
            f"{configs.where}/{EXTRAS}: infill_guidance has no effect without clean_frames; remove it"
        )
    _check_fps_embedding(unet, extras.told_fps)
    scheduler = configs.parts["scheduler"]
    if extras.use_scale and scheduler.config.get("prediction_type", "epsilon") != "epsilon":
        raise InputError(f"use_scale of {EXTRAS} is for networks that predict epsilon, which {scheduler.where} denies")
    denoiser = unet.read(Denoiser)
    capabilities: set[type[VideoModel]] = {PerFrameNoise, TemporalHooks}
    if extras.clean_frames:
        capabilities |= {Infill, Continuation}
    if extras.told_fps is not None:
        capabilities |= {ToldFps}
    layers = temporal_layers(unet.config, denoiser.size, unet.where)
    # Every transformer over time but transformer_in, the first, follows one over cells, whose keys and values are kept.
    widths = [channels for kind, channels, _ in layers if kind == "attention"][2:]
    tokens = configs.parts["text_encoder"].read(TextEncoder).max_position_embeddings
    more = {"temporal_layers": layers, "prompt_numbers": tokens * sum(widths)}
    return image_spec(configs, extras, denoiser, capabilities, blends=True, **more)


def _check_fps_embedding(unet: Part, told_fps: float | None) -> None:
    """Check that a UNet wants to be told of frames per second exactly where they are given.

    Raises InputError where it does not, CheckpointError for an embedding of another form.
    """
    found = {name for name in unet.shapes() if name.startswith("fps_embedding.")}
    if found and found != set(FPS_EMBEDDING):
        raise CheckpointError(f"{unet.where} has an fps embedding of another form; known: {', '.join(FPS_EMBEDDING)}")
    if found and told_fps is None:
        raise InputError(
            f"{unet.where}: the UNet must be told of frames per second; 'longtake convert videocrafter2' makes a "
            "folder that does so"
        )
    if told_fps is not None and not found:
        raise InputError(f"told_fps of {EXTRAS} has no effect: {unet.where} has no fps embedding; leave it out")
