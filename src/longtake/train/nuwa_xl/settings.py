"""How NUWA-XL is trained. Imports no torch, so that a command line is checked before that is loaded."""

from dataclasses import dataclass
from typing import Annotated

from longtake.errors import InputError
from longtake.models.nuwa_xl.spec import MtdConfig
from longtake.train.fit.settings import DiffusionLoss, FitSettings
from longtake.train.nuwa_xl.start import Start
from longtake.typed import Setting, Typed


@dataclass(frozen=True, kw_only=True)
class MtdSettings(DiffusionLoss):
    """Batches and loss of mask temporal diffusion; each clip has a level of its own."""

    level_shares: Annotated[tuple[float, ...] | None, Setting(metavar="FLOAT ...", unset="equally often")] = None
    """How often each level is drawn, from coarse to fine; equally often if not given."""
    drop_known: float = 0.1
    """Share of clips at finer levels of which nothing is known, as of those at the coarsest."""
    continued: float = 0.15
    """Share of clips of which the first frames are known and no others, for going on from them."""
    continued_frames: tuple[int, ...] = (1, 8)
    """How many those are, each equally often."""
    known_noise: float = 0.1
    """Known frames get noise of a strength between none and this, as they will be made by the network itself."""
    guidance: float = 3.0
    """Guidance scale of the pictures made on the way, and the one that the finished model asks for."""

    def __post_init__(self) -> None:
        """Raise InputError for values that mean nothing."""
        super().__post_init__()
        if not all(0 <= share <= 1 for share in (self.drop_known, self.continued)):
            raise InputError("drop_known and continued are shares; use numbers from 0 to 1")
        if self.continued + self.drop_known > 1:
            raise InputError("continued and drop_known are more than all clips together; lower one of them")
        if self.known_noise < 0:
            raise InputError("known_noise cannot be below 0")
        if not self.continued_frames or min(self.continued_frames) < 1:
            raise InputError("continued_frames must be 1 or more; --continued 0 leaves such clips out")
        if self.level_shares is not None and (min(self.level_shares) < 0 or not sum(self.level_shares) > 0):
            raise InputError("level_shares must be 0 or more, and not all 0")

    def check(self, config: MtdConfig) -> None:
        """Raise InputError where a network of this kind cannot be trained so."""
        levels = len(config.strides)
        if self.level_shares is not None and len(self.level_shares) != levels:
            raise InputError(f"there are {len(self.level_shares)} level_shares for {levels} levels; give one for each")
        if self.continued and max(self.continued_frames) >= config.frames:
            raise InputError(
                f"continued_frames {max(self.continued_frames)} leave nothing to make of a clip of {config.frames} "
                "frames; use less, or --continued 0"
            )


@dataclass(frozen=True, kw_only=True)
class NuwaXlRun(Typed):
    """Mask temporal diffusion on episodes: which network, from which start, at which side of the frames in pixels."""

    network: MtdConfig
    start: Start
    size: int
    loss: MtdSettings
    fit: FitSettings
    t_klvae_steps: int = 0
    """Steps of the layers over time of the decoder, before those of the network; 0 trains none."""

    def __post_init__(self) -> None:
        """Raise InputError for steps that cannot be."""
        super().__post_init__()
        if self.t_klvae_steps < 0:
            raise InputError(f"t_klvae_steps cannot be {self.t_klvae_steps}; use 0 or more")
