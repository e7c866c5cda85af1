"""What NUWA-XL's networks add to those of an image model. Imports no torch."""

from dataclasses import dataclass

from longtake.errors import InputError


@dataclass(frozen=True, kw_only=True)
class MtdConfig:
    """What mask temporal diffusion adds to an image UNet."""

    frames: int = 16
    """Frames of a clip, the paper's L; the network runs on as many or fewer."""
    multi_scale: bool = True
    """Tell every scale of the UNet of the known frames (the paper's MI), rather than the finest alone."""
    symmetric: bool = True
    """Tell the way down as well as the way up (the paper's SI)."""
    condition_channels: int = 32
    """Channels in which the known frames travel to the scales."""
    strides: tuple[int, ...] = (225, 15, 1)
    """Frames of the video from one frame of a clip to the next: those it learns, from the coarsest level on."""

    def __post_init__(self) -> None:
        """Raise InputError for sizes that no network can have."""
        if self.frames < 3:
            raise InputError(f"a clip of {self.frames} frames has nothing between its ends; use 3 or more")
        if self.condition_channels < 1:
            raise InputError(f"{self.condition_channels} condition channels carry nothing; use 1 or more")
        if not self.strides or min(self.strides) < 1:
            raise InputError(f"strides cannot be {list(self.strides)}; name one or more, each 1 or more")
