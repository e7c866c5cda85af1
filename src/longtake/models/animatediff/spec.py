"""What can be known of AnimateDiff with SparseCtrl before its weights are loaded. Imports no torch.

The motion_adapter of a folder is not read, since the UNet holds the same weights.
"""

from dataclasses import dataclass

from longtake.errors import CheckpointError, InputError
from longtake.model import Continuation, Infill, Timing, VideoSpec
from longtake.models.hub.configs import Configs, Count, Length
from longtake.models.image_spec import Denoiser, image_spec


@dataclass(frozen=True, kw_only=True)
class Unet(Denoiser):
    """What is read of the config of UNetMotionModel; the defaults are the library's."""

    motion_max_seq_length: Length = 32


@dataclass(frozen=True, kw_only=True)
class Control:
    """What is read of the config of SparseControlNetModel; the defaults are the library's."""

    motion_max_seq_length: Length = 32
    use_simplified_condition_embedding: bool = True
    conditioning_channels: Count = 4


def spec(configs: Configs) -> VideoSpec:
    """Return the spec of a model.

    Raises InputError for more frames than it has positions for and for another control, CheckpointError for broken
    configs.
    """
    extras = configs.told(("num_frames", "infill_guidance", "vocabulary"), guidance=7.5)
    where = configs.parts["controlnet"].where
    unet, control = configs.parts["unet"].read(Unet), configs.parts["controlnet"].read(Control)
    most = min(unet.motion_max_seq_length, control.motion_max_seq_length)
    timing = Timing(window_lengths=range(1, most + 1))
    configs.check_window(extras.num_frames, timing)
    if not control.use_simplified_condition_embedding:
        raise InputError(f"{where} is controlled by drawings; longtake needs one that is given frames (sparsectrl-rgb)")
    if control.conditioning_channels != unet.in_channels:
        raise CheckpointError(f"{where} is made for other latents than those of {configs.parts['unet'].where}")
    return image_spec(configs, extras, unet, {Infill, Continuation}, timing=timing)
