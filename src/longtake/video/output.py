"""What a run is asked to write, where it may, and what it is going to write, checked. Free of torch and av."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated

from longtake.errors import InputError, OutputError
from longtake.reading import refuse_device, refuse_lost_link, refuse_name, refuse_no_place, refuse_unwritable
from longtake.typed import Flag, Setting, Typed
from longtake.video.encoding import Encoding, check_even, check_form, exact_rate, read_rate
from longtake.video.files import (
    FRAME_FILE,
    PICTURE_ENDINGS,
    RECORD_FILE,
    VIDEO_ENDINGS,
    is_ours,
    report_path,
    state_folder,
    subtitle_path,
)
from longtake.video.formats import FORMATS, Format
from longtake.video.record import Record, check_length, check_settings, flat_settings, read_record

_UNHEARD = 0.05
"""Seconds by which sound and video may differ without a word."""


def frame_range(text: str) -> tuple[int, int]:
    """Return the frames that FIRST:STOP names. Raises InputError for anything else."""
    if not re.fullmatch(r"\d+:\d+", text, re.ASCII):
        raise InputError(f"--range {text!r} is no range; write the first frame and the one after the last: 1000:1100")
    first, stop = text.split(":")
    return int(first), int(stop)


def read_bytes(text: str, option: str = "--keep-states") -> int:
    """Return the bytes that a word such as 500MB, given for an option, says. Raises InputError for anything else."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d+)?)\s*([kMGT]?)B?", text, re.ASCII)
    if not found:
        raise InputError(f"{option} {text!r} is no size; write bytes, or 500MB or 2GB")
    return int(float(found[1]) * 1000 ** " kMGT".index(found[2] or " "))


@dataclass(frozen=True, kw_only=True)
class Output(Typed):
    """Where the video goes, and in which form."""

    path: Annotated[Path, Setting(name="output", short="-o", metavar="PATH")] = Path("out.mp4")
    """Where to: .mp4 (H.264), .mkv (lossless), or a folder/ (PNG, lossless)."""
    fps: Annotated[float | None, Setting(metavar="RATE", unset="the model's own", read=read_rate)] = None
    """Frames per second of the file, also as a fraction: 30000/1001."""
    crf: int = 18
    """Quality of MP4: 0 is lossless, 18 looks so, 51 is worst."""
    scale: int = 1
    """Enlarge every pixel to a square of this side."""
    segment: Annotated[int, Setting(metavar="FRAMES")] = 32
    """Frames that are stored together: so many make the file play, and a kill costs at most as many. Few make an MP4
    larger."""
    audio: Annotated[str | None, Setting(metavar="FILE", unset="none")] = None
    """The sound of an MP4: that of a file, cut to the length of the video, or with silence after it."""
    overwrite: Flag = False
    """Start again where another run has written."""
    keep_states: Annotated[int, Setting(metavar="BYTES", read=read_bytes)] = 1_000_000_000
    """Disk for earlier states of the run, from which 'longtake extend' and 'longtake redo' go on: 500MB, 2GB; 0 for
    none."""
    part: Annotated[
        tuple[int, int] | None, Setting(name="range", metavar="FIRST:STOP", unset="all", read=frame_range)
    ] = None
    """Make only these frames of the video, exactly as they are in the whole of it; nuwa-xl only."""

    def __post_init__(self) -> None:
        """Raise InputError for numbers that no video has, OutputError for a path without a name, and for a pipe."""
        if self.path == "":
            raise InputError("the path of the output is empty; give PATH, or leave it out")
        super().__post_init__()
        if self.keep_states < 0:
            raise InputError(f"--keep-states {self.keep_states} is no size; write bytes, or 500MB or 2GB")
        check_named(self.path)
        check_form(self.scale, self.crf, self.segment)
        if self.part is not None:
            _check_part(*self.part)
        if self.fps is not None:
            exact_rate(self.fps)
        if str(self.path) == "-":
            raise OutputError(
                "cannot write the video to standard output: a run goes on in its file after an interruption; "
                "give -o a name, such as out.mp4, which plays while it grows"
            )


def _check_part(first: int, stop: int) -> None:
    reason = "begins before frame 0" if first < 0 else "holds no frame"
    if not 0 <= first < stop:
        raise InputError(f"--range {first}:{stop} {reason}; write the first frame and the one after the last")


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
    keep_states: int = 0
    """Bytes of earlier states to keep."""
    free: int | None = None
    """Up to so many frames a state does not depend on where the video ends; None for all."""
    notes: tuple[str, ...] = ()
    """What its owner should know."""


def make_target(
    output: Output,
    *,
    settings: Mapping[str, object],
    fps: float,
    total: int | None,
    size: tuple[int, int],
    comment: str,
    free: int | None = None,
) -> Target:
    """Check an output and how it will be stored, before any work. Touches nothing.

    `settings` are the run's own, values as JSON has them, mappings nested as one likes; fps, scale, segment, frames,
    size and, where it has an effect, crf are added to them here. `fps` holds where the output gives none, `size` is
    (height, width) of the frames as they arrive, in pixels; `comment` goes into the metadata of MP4 and Matroska and
    must follow from the settings; for `free` see `Target`. For the errors see `check_output`, `exact_rate` and
    `Encoding`; InputError for odd sizes or sound in a format that has none, and for sound that cannot be read.
    """
    format = check_output(output.path, overwrite=output.overwrite)
    if total is not None and total < 1:
        raise InputError(f"a video of {total} frames is no video; give at least 1")
    fps, (height, width) = fps if output.fps is None else output.fps, size
    scale, segment = output.scale, output.segment
    video = Encoding(
        rate=exact_rate(fps),
        height=height,
        width=width,
        scale=scale,
        crf=output.crf,
        segment=segment,
        comment=comment,
        audio=output.audio,
    )
    stored: dict[str, object] = {"fps": fps, "scale": scale, "segment": segment, "frames": total, "size": list(size)}
    if format.even:
        check_even(video, format.name)
    if format.lossy:
        stored["crf"] = output.crf
    notes = ()
    if output.audio is not None:
        stored["audio.file"] = output.audio
        stored["audio"], notes = _checked_sound(output, format, None if total is None else total / video.rate)
    return Target(
        path=output.path,
        format=format,
        video=video,
        total=total,
        overwrite=output.overwrite,
        keep_states=output.keep_states,
        free=free,
        settings=flat_settings(settings) | flat_settings(stored),
        notes=notes,
    )


def _checked_sound(output: Output, format: Format, seconds: Fraction | None) -> tuple[str, tuple[str, ...]]:
    """Return the digest of the sound of a video of so many seconds, and how the two lengths differ."""
    audio = output.audio
    assert audio is not None
    if not format.sound:
        raise InputError(f"--audio has no place in {output.path}, {format.about}; leave it out, or write .mp4")
    if output.part is not None:
        raise InputError("--audio belongs to the whole of a video; leave it out, or --range")
    # Imports av.
    from longtake.video.sound import sound_digest, sound_seconds

    digest, lasts = sound_digest(audio), sound_seconds(audio)
    if seconds is None or lasts is None or abs(lasts - seconds) < _UNHEARD:
        return digest, ()
    what = "the rest of the video is silent" if lasts < seconds else "the rest of it is cut off"
    return digest, (f"the sound of {audio} lasts {lasts:.1f} s, and the video {float(seconds):.1f} s: {what}",)


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


def output_format(path: str | Path) -> Format:
    """Tell by its ending in which format a path is written.

    A path that ends with a slash, has no ending, or is a folder already means PNG files. Raises OutputError for another
    ending.
    """
    text, path = str(path), Path(path)
    ending, known = path.suffix.lower(), {one.ending: one for one in FORMATS.values()}
    if text.endswith(("/", os.sep)) or (path.is_dir() and ending not in known):
        return known[""]
    if ending in known:
        return known[ending]
    *others, last = (one.example(path.with_suffix("")) for one in FORMATS.values())
    raise OutputError(f"cannot write {path}: unknown ending {ending!r}; use {', '.join(others)} or {last}")


def check_output(path: str | Path, *, overwrite: bool = False, inputs: Iterable[str | Path | None] = ()) -> Format:
    """Return in which format a video would be written at `path`, or raise before any work is done. Touches nothing.

    Raises OutputError for: one of the `inputs` (see `refuse_inputs`), an unknown ending, a path without a name
    (".", "..") or with one that is too long, a missing or unwritable parent, a link that leads to no place for it,
    a folder where a file is meant and the other way round, a file or folder that belongs to no longtake run (a file
    is fine with `overwrite`, a folder that holds anything but numbered PNG files never is).
    """
    check_named(Path(path))
    refuse_name(Path(path))
    refuse_inputs(Path(path), inputs)
    format, path = output_format(path), Path(path)
    refuse_no_place(path, folder=not format.ending)
    refuse_unwritable(path, path.absolute().parent)
    if format.ending:
        _check_file(path, overwrite=overwrite)
    else:
        _check_folder(path, overwrite=overwrite)
    state = state_folder(path)
    refuse_lost_link(state, folder=True)
    if state.exists() and not state.is_dir():
        raise OutputError(f"cannot write {path}: {state} is a file, but it must be a folder; move it away")
    if state.is_dir():
        refuse_unwritable(path, state)
    return format


def check_named(path: Path) -> None:
    """Raise OutputError for a path without a name, under which state, report and subtitles lie beside the output."""
    if path.name in ("", ".."):
        raise OutputError(f"cannot write to {path}: this path has no name of its own; write the folder's name")


def refuse_inputs(output: Path, inputs: Iterable[str | Path | None], option: str = "-o") -> None:
    """Raise OutputError for an output that is one of the inputs of its command, or belongs to a video among them, which
    it would replace; what is not there, as a text of prompts, is left out. Whoever asks to overwrite means the output
    of a command before."""
    real = Path(os.path.realpath(output))
    for one in (Path(one) for one in inputs if one is not None and os.path.exists(one)):
        place = Path(os.path.realpath(one))
        if place == real or (real.exists() and real.samefile(place)):
            what = "is read" if str(one) == str(output) else f"is {one}, which is read"
        elif _is_of_video(real, place):
            what = f"belongs to {one}, which is read"
        else:
            continue
        raise OutputError(f"cannot write {output}: it {what} and would be replaced; choose another {option}")


def _is_of_video(path: Path, video: Path) -> bool:
    """Whether a path is that of a file that belongs to a video, or to a folder of frames."""
    if video.is_dir():
        if path.parent == video and path.suffix.lower() in PICTURE_ENDINGS:
            return True
    elif video.suffix.lower() not in VIDEO_ENDINGS:
        return False
    # The root has no name, and nothing beside it.
    return bool(video.name) and (
        path in (report_path(video), subtitle_path(video)) or path.is_relative_to(state_folder(video))
    )


def _check_file(path: Path, *, overwrite: bool) -> None:
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder, but its ending means a file; choose another name")
    if not path.exists():
        return
    refuse_device(path)
    if not os.access(path, os.W_OK):
        raise OutputError(f"cannot write {path}: no permission to change this file")
    if not overwrite and not (state_folder(path) / RECORD_FILE).exists():
        raise OutputError(f"{path} exists and belongs to no longtake run; choose another name, or --overwrite it")


def _check_folder(path: Path, *, overwrite: bool) -> None:
    if not path.exists():
        return
    refuse_device(path)
    if not path.is_dir():
        raise OutputError(f"cannot write PNG files to {path}: it is a file, but its name means a folder")
    refuse_unwritable(path, path)
    names = [entry.name for entry in path.iterdir() if is_ours(entry.name)]
    foreign = next((name for name in names if not FRAME_FILE.fullmatch(name)), None)
    if foreign is not None:
        raise OutputError(
            f"cannot write PNG files to {path}: it holds other files ({foreign}); move them away, or use another folder"
        )
    if names and not overwrite and not (state_folder(path) / RECORD_FILE).exists():
        raise OutputError(f"{path} holds frames of no longtake run; choose another folder, or --overwrite them")
