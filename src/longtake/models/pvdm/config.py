"""What PVDM's networks are made of; the defaults are the sizes of the released ones. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from longtake.errors import InputError
from longtake.typed import Setting, Typed


@dataclass(frozen=True, kw_only=True)
class Grid(Typed):
    """A clip as cells, one a frame and patch of the picture."""

    frames: int = 16
    """Frames in a clip."""
    rows: int = 32
    """Patches from top to bottom."""
    columns: int = 32
    """Patches from left to right."""

    @property
    def planes(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Return the sides of the planes, in the order in which latents hold them: z^s, z^h and z^w.

        Each is the grid seen along one axis: time (rows x columns: what is there), height (frames x columns) and width
        (frames x rows: how it moves).
        """
        return (self.rows, self.columns), (self.frames, self.columns), (self.frames, self.rows)

    @property
    def positions(self) -> int:
        """Return the cells of the three planes together, which is the length of a latent."""
        return sum(height * width for height, width in self.planes)


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(Typed):
    """What the autoencoder is made of."""

    grid: Annotated[Grid, Setting(option=False)] = Grid()
    """What a clip is cut into."""
    patch: int = 8
    """Pixels to a side of a patch."""
    width: int = 384
    """Channels of a token."""
    depth: int = 8
    """Layers of the encoder, and of the decoder."""
    heads: int = 8
    """Heads of attention over time and space, of 64 channels each."""
    pool_depth: int = 4
    """Layers of each transformer that folds the grid into a plane."""
    pool_heads: int = 4
    """Heads of those, of an eighth of the width each."""
    pool_hidden: int = 512
    """Hidden channels of those."""
    latent_channels: int = 4
    """Channels of a latent."""
    compat: bool = False
    """Keep what the authors' weights were trained with: neighbouring channels of rotary attention over time turn by
    different angles, and a plane is read from the first cell of the folded axis rather than from the learned token."""

    def __post_init__(self) -> None:
        """Raise InputError for sizes that no network can have."""
        super().__post_init__()
        _check_counts(vars(self) | vars(self.grid))
        if self.width % 8:
            raise InputError(f"an autoencoder cannot be {self.width} channels wide; use a multiple of 8")


@dataclass(frozen=True, kw_only=True)
class UnetConfig(Typed):
    """What the UNet over the planes is made of: PVDM-L; `channels=128` is the width of PVDM-S."""

    grid: Annotated[Grid, Setting(option=False)] = Grid()
    """The autoencoder's."""
    latent_channels: Annotated[int, Setting(option=False)] = 4
    """The autoencoder's."""
    channels: int = 256
    """Channels of the first level."""
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    """Channels of every level, as multiples of the first; every level but the last halves the planes' sides."""
    blocks: int = 2
    """Residual blocks of a level on the way down; one more on the way up."""
    attention: tuple[bool, ...] = (True, True, True, False)
    """Whether a level has attention within each plane, beside that over all three."""
    heads: Annotated[int, Setting(name="unet-heads")] = 8
    """Heads of all attention."""
    groups: int = 32
    """Groups of every normalisation."""
    text_width: Annotated[int | None, Setting(option=False)] = None
    """Channels of the text encoder whose states the network reads; None for a network without text."""
    prediction: Literal["epsilon", "v_prediction"] = "epsilon"
    """What the network says of a noisy latent."""

    def __post_init__(self) -> None:
        """Raise InputError for sizes that no network can have."""
        super().__post_init__()
        _check_counts(vars(self) | vars(self.grid) | {"multipliers": min(self.multipliers, default=0)})
        if len(self.attention) != len(self.multipliers):
            raise InputError(f"attention names {len(self.attention)} levels, multipliers {len(self.multipliers)}")
        unit = 2 ** (len(self.multipliers) - 1)
        for axis, cells in vars(self.grid).items():
            if cells % unit:
                raise InputError(f"{cells} {axis} cannot be halved at every level; use a multiple of {unit}")
        for multiplier in self.multipliers:
            for what, parts in (("heads", self.heads), ("groups", self.groups)):
                if self.channels * multiplier % parts:
                    raise InputError(f"{self.channels * multiplier} channels do not divide into {parts} {what}")
        if self.channels % 2:
            raise InputError(f"{self.channels} channels cannot hold sines and cosines; use an even number")


def _check_counts(fields: Mapping[str, object]) -> None:
    for name, value in fields.items():
        # A truth value is an int, too.
        if type(value) is int and value < 1:
            raise InputError(f"{name} cannot be {value}; use 1 or more")
