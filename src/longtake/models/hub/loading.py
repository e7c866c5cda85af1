"""Which weights of a model are taken: settings of every command that loads one, and keywords of `load_model`."""

from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

from longtake.typed import Setting


@dataclass(frozen=True, kw_only=True)
class Loading:
    """Which weights of a model are taken."""

    revision: Annotated[str | None, Setting(metavar="NAME", unset="main")] = None
    """Branch, tag or commit of a model that --model names by its hub id."""
    variant: Annotated[str | None, Setting(metavar="WORD", unset="plain files, else fp16")] = None
    """Take the files of weights that have this word in their name, such as fp16."""

    @property
    def told(self) -> dict[str, Any]:
        """Return what differs from the defaults, by the names of the fields."""
        return {entry.name: value for entry in fields(self) if (value := asdict(self)[entry.name]) != entry.default}
