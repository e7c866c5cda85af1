"""What training notes down in JSON beside what it makes, and reads again."""

from pathlib import Path
from typing import TypeVar

from longtake.errors import CheckpointError
from longtake.reading import read_file
from longtake.typed import read_typed

Kind = TypeVar("Kind")


def read_noted(kind: type[Kind], path: Path, advice: str) -> Kind | None:
    """Return what a file holds, as `read_typed` does; None where there is none.

    Raises CheckpointError where it is damaged or cannot be read, with what then to do (`advice`).
    """
    if not path.exists():
        return None
    try:
        return read_typed(kind, read_file(path), str(path), error=CheckpointError)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {advice}") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path} ({error.strerror}); {advice}") from None
