"""What a run is going to write, checked against what is there already. Free of torch and av."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from longtake.errors import InputError
from longtake.video.encoding import Encoding, check_even, exact_rate
from longtake.video.formats import Format
from longtake.video.paths import check_output
from longtake.video.record import Record, check_length, check_settings, flat_settings, read_record


class Standing(enum.StrEnum):
    """What the same command finds at its output."""

    NEW = "new"
    UNFINISHED = "unfinished"
    FINISHED = "finished"


@dataclass(frozen=True, kw_only=True)
class Target:
    """An output path together with everything that determines what will be in it."""

    path: Path
    """The file or folder."""
    format: Format
    """In which format it is written there."""
    video: Encoding
    """How frames are stored."""
    total: int | None
    """Frames in all; None for an endless run."""
    settings: Mapping[str, object]
    """All of the run's settings that change a byte of the output, flat."""
    overwrite: bool
    """Start again whatever is there."""


def make_target(
    path: str | Path,
    *,
    settings: Mapping[str, object],
    fps: float,
    crf: int,
    scale: int,
    segment: int,
    total: int | None,
    size: tuple[int, int],
    comment: str,
    overwrite: bool,
) -> Target:
    """Check an output and how it will be stored, before any work. Touches nothing.

    `settings` are the run's own, values as JSON has them, mappings nested as one likes; fps, scale, segment, frames,
    size and, where it has an effect, crf are added to them here. `segment` is in frames, `size` (height, width) of the
    frames as they arrive, in pixels; `comment` goes into the metadata of MP4 and Matroska and must follow from the
    settings. For the errors see `check_output`, `exact_rate` and `Encoding`; InputError for odd sizes in a format that
    has none.
    """
    format = check_output(path, overwrite=overwrite)
    if total is not None and total < 1:
        raise InputError(f"a video of {total} frames is no video; give at least 1")
    video = Encoding(
        rate=exact_rate(fps), height=size[0], width=size[1], scale=scale, crf=crf, segment=segment, comment=comment
    )
    stored: dict[str, object] = {"fps": fps, "scale": scale, "segment": segment, "frames": total, "size": list(size)}
    if format.even:
        check_even(video, format.name)
    if format.lossy:
        stored["crf"] = crf
    return Target(
        path=Path(path),
        format=format,
        video=video,
        total=total,
        overwrite=overwrite,
        settings=flat_settings(settings) | flat_settings(stored),
    )


def earlier_run(target: Target) -> Record | None:
    """Return the record of the run that this one continues; None when it starts from nothing.

    Raises OutputError that names the settings that have changed, CheckpointError for a damaged record and for
    an output that is gone or too short.
    """
    if target.overwrite:
        return None
    record = read_record(target.path)
    if record is not None:
        check_settings(target.path, record, target.settings)
        check_length(target.path, record)
    return record


def standing(target: Target) -> Standing:
    """Tell whether the run is new, unfinished or finished, without reading the output; raises as `earlier_run` does."""
    record = earlier_run(target)
    if record is None:
        return Standing.NEW
    return Standing.FINISHED if record.finished else Standing.UNFINISHED
