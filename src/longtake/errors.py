"""Errors that a user can cause, each one line: what happened, why, and what to do."""

from collections.abc import Iterable

from longtake.words import known_names


class LongtakeError(Exception):
    """Base of every error that longtake raises on purpose; the command line prints it as one line, exit status 2."""


class LongtakeWarning(UserWarning):
    """Something that longtake takes, and that its user should know; the command line prints it as one line."""


class InputError(LongtakeError):
    """A setting, a prompt or a name that cannot be used."""


class CapabilityError(LongtakeError):
    """The sampler needs something that the model does not offer."""


class OutputError(LongtakeError):
    """A file or folder that cannot be written, or that belongs to another run."""


class CheckpointError(LongtakeError):
    """Weights or saved state that are missing, damaged or of another shape."""


class NonFiniteError(LongtakeError):
    """Weights, latents, pixels or a loss that are infinite or no numbers (NaN)."""


class RanksError(LongtakeError):
    """Processes of one job that have lost each other."""


class MissingExtraError(LongtakeError):
    """An optional package that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed; it comes with: pip install 'longtake[{extra}]', or pip install '.[{extra}]' "
            "where the sources are"
        )


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Return the error for an unknown name of a kind ("sampler"), with the nearest of the known ones suggested."""
    return InputError(f"there is no {kind} {name!r}; {known_names(name, known)}")
