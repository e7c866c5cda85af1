"""Which weights of a model are taken, and where they lie: settings of every command that loads one, and keywords of
`load_model`. Imports no torch."""

from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal

from longtake.errors import InputError
from longtake.typed import Setting

Offload = Literal["none", "text", "model"]


@dataclass(frozen=True, kw_only=True)
class Loading:
    """Which weights of a model are taken, and where they lie."""

    revision: Annotated[str | None, Setting(metavar="NAME", unset="main")] = None
    """Branch, tag or commit of a model that --model names by its hub id."""
    variant: Annotated[str | None, Setting(metavar="WORD", unset="plain files, else fp16")] = None
    """Take the files of weights that have this word in their name, such as fp16."""

    offload: Annotated[Offload | None, Setting(unset="text on a GPU")] = None
    """What leaves the GPU's memory between its calls: none, the text encoder, or all parts but the one that computes.
    No frame changes; model takes time at every change from network to decoder."""

    def offload_on(self, device: str) -> Offload:
        """Return what leaves this device. Raises InputError where there is nowhere to go."""
        if not device.startswith("cpu"):
            return self.offload or "text"
        if self.offload is not None:
            raise InputError(f"--offload {self.offload} has no effect on a CPU, which has one memory; leave it out")
        return "none"

    @property
    def told(self) -> dict[str, Any]:
        """Return what differs from the defaults, by the names of the fields."""
        return {entry.name: value for entry in fields(self) if (value := asdict(self)[entry.name]) != entry.default}
