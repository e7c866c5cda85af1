"""What the commands that score folders of videos by networks check before they read any."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from longtake.apps.settings import Device
from longtake.errors import InputError


class Scoring(Protocol):
    """Settings of such a command."""

    @property
    def device(self) -> Device:
        """Where networks from files run."""
        ...


def check_scoring(settings: Scoring, least: Mapping[str, int], networks: Sequence[str]) -> None:
    """Raise InputError for numbers below `least`, and for `networks` (names of settings) that cannot be had."""
    for name, bound in least.items():
        value: int | None = getattr(settings, name)
        if value is not None and value < bound:
            raise InputError(f"--{name} {value} is too small; use {bound} or more")
    given: dict[str, Path | None] = {"--" + name.replace("_", "-"): getattr(settings, name) for name in networks}
    for flag, path in given.items():
        if path is not None and not path.is_file():
            raise InputError(f"there is no file {path}; {flag} takes a TorchScript file, or leave it out")
    if settings.device != "auto" and not any(given.values()):
        raise InputError(
            f"--device has no effect without {' or '.join(given)}: the stand-ins for them run on the processor"
        )
