"""What an adaptation learns. Imports no torch, so that a command line is checked before that is loaded."""

from dataclasses import dataclass
from typing import Annotated, Literal

from longtake.errors import InputError
from longtake.train.fit.settings import Batches
from longtake.typed import Setting

Recipe = Literal["guidance", "levels"]


@dataclass(frozen=True, kw_only=True)
class AdaptSettings(Batches):
    """What is learnt, and from how much at a time."""

    batch_size: int = 4
    recipe: Annotated[Recipe, Setting(metavar="guidance|levels")] = "guidance"
    """guidance: what the model says with guidance, in one branch, so that a video takes half the work. levels: a noise
    level for every frame, frames that are finished before and around those to be made; for a model that was trained
    with one level a clip."""
    rank: int = 16
    """Rank of the LoRA: numbers that a layer hands on beside its own."""
    guidance: Annotated[float | None, Setting(metavar="FLOAT", unset="the model's own")] = None
    """Guidance that is learnt."""
    drop_text: float = 0.1
    """Share of clips that are trained with the empty prompt, for guidance; of the recipe levels."""
    sample_steps: int = 16
    """Steps of the clips made on the way."""

    def __post_init__(self) -> None:
        """Raise InputError for values that mean nothing."""
        super().__post_init__()
        if self.rank < 1:
            raise InputError(f"a LoRA of rank {self.rank} changes nothing; use 1 or more")
        if not 0 <= self.drop_text <= 1:
            raise InputError("drop_text is a share; use a number from 0 to 1")
        if not 1 <= self.sample_steps <= 1000:
            raise InputError(f"clips cannot be made in {self.sample_steps} steps; use 1 to 1000")
        if self.guidance is not None and self.recipe != "guidance":
            raise InputError(f"a guidance has no effect on the recipe {self.recipe}; leave it out")
        if self.guidance is not None and not 1 < self.guidance <= 100:
            raise InputError(f"a guidance of {self.guidance:g} is nothing to learn; use one above 1, usually 3 to 12")
