"""The film Big Buck Bunny as training data: python -m lab film big-buck-bunny FILM FOLDER.

Writes the story (490 s, without the credits) as one lossless video per shot, 64x64 pixels at 12 frames a second. The
film comes inside the source distribution of moviepy 2.2.1:
pip download --no-deps --no-binary :all: moviepy==2.2.1
"""

import hashlib
import tarfile
import zipfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
from tyro.conf import Positional, arg

from longtake.data.footage import Frames, centre_square
from longtake.errors import InputError, OutputError
from longtake.video.encoding import Encoding
from longtake.video.formats.mkv import Mkv
from longtake.video.read import open_video

ATTRIBUTION = "(c) Blender Foundation, www.bigbuckbunny.org, CC-BY 3.0"
"""What must be said wherever the film, or a part of it, is shown."""
SHA256 = "475fbbf34c4c367998f80c29ea03b15a743941179b12da3373fc6706e68621d0"
SIZE = 64
FILM_FPS = 24
FPS = 12
STORY_SECONDS = 490

_NOTICE = f"""Big Buck Bunny (2008), {ATTRIBUTION}
https://creativecommons.org/licenses/by/3.0/
Changed: the first {STORY_SECONDS} seconds, every second frame, the middle square scaled to {SIZE}x{SIZE} pixels,
cut into shots, no sound.
"""
_ARCHIVE, _FILM = "moviepy_10_minutes.zip", "bbb.mp4"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The film, and where to."""

    source: Annotated[Positional[Path], arg(metavar="FILM")]  # the film, or moviepy-2.2.1.tar.gz, which holds it
    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]


def prepare(chosen: Settings) -> str:
    """Write one video per shot to a new folder, and what must be said about them; return that, and how many there are.

    Raises InputError for any other file, OutputError for a folder that
    holds something.
    """
    folder = chosen.folder
    check_new(folder)
    with TemporaryDirectory() as scratch:
        frames = film_frames(film_file(chosen.source, Path(scratch)), STORY_SECONDS, FPS)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ATTRIBUTION.txt").write_text(_NOTICE, encoding="utf-8")
    return f"{folder}: {write_shots(frames, folder)} shots of Big Buck Bunny, {ATTRIBUTION}"


def check_new(folder: Path) -> None:
    """Raise OutputError for a folder that holds something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"cannot write to {folder}: it is there already; give a new folder")


def film_file(source: Path, scratch: Path) -> Path:
    """Return the film: `source` itself, or what is unpacked from the archive to the folder `scratch`.

    Raises InputError for a file that is neither, and for another copy of the film.
    """
    try:
        film = _unpacked(source, scratch) if source.name.endswith(".tar.gz") else source
        with film.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError, StopIteration) as error:
        reason = f"{error}" or f"there is no {_ARCHIVE} with {_FILM} in it"
        raise InputError(f"cannot read the film from {source}: {reason}; give moviepy-2.2.1.tar.gz") from None
    if digest != SHA256:
        raise InputError(f"{source} is not the expected copy of the film (SHA-256 {digest}); give moviepy-2.2.1.tar.gz")
    return film


def _unpacked(source: Path, scratch: Path) -> Path:
    with tarfile.open(source) as package:
        member = next(member for member in package if member.isfile() and member.name.endswith(_ARCHIVE))
        file = package.extractfile(member)
        assert file is not None
        with zipfile.ZipFile(file) as archive:
            name = next(name for name in archive.namelist() if Path(name).name == _FILM)
            with archive.open(name) as film, (scratch / _FILM).open("wb") as target:
                copyfileobj(film, target)
    return scratch / _FILM


def film_frames(film: Path, seconds: int, fps: int) -> Frames:
    """Return the beginning of the film, uint8 (frames, 64, 64, 3); smoothed before it is made small, as it is 11 times
    larger."""
    video, every = open_video(film), FILM_FPS // fps
    assert video.fps == FILM_FPS
    # One piece of memory from the start: thousands of small ones between the large frames would hold gigabytes.
    kept = np.empty((seconds * fps, SIZE, SIZE, 3), np.uint8)
    for number, frame in enumerate(video.read(0, seconds * FILM_FPS)):
        if number % every == 0:
            kept[number // every] = centre_square(frame[None], SIZE, antialias=True)[0]
    return kept


def find_cuts(frames: Frames) -> list[int]:
    """Return the first frame of every shot but the first.

    A cut is where the picture (blocks of 4x4 pixels) changes by more than 15 grey levels and three times as much as
    around it, and a fifth of the histogram of colours is exchanged: fast movement only does the former. Frames need
    sides that 4 divides.
    """
    num, height, width, _ = frames.shape
    blocks = frames.reshape(num, height // 4, 4, width // 4, 4, 3).mean(axis=(2, 4))
    change = np.abs(np.diff(blocks, axis=0)).mean(axis=(1, 2, 3))
    around = np.array([np.median(change[max(0, place - 6) : place + 7]) for place in range(num - 1)])
    colours = np.stack([_histogram(frame) for frame in frames])
    exchanged = np.abs(np.diff(colours, axis=0)).sum(axis=1) / 2
    return (np.flatnonzero((change > 15) & (change > 3 * around) & (exchanged > 0.2)) + 1).tolist()


def _histogram(frame: Frames) -> np.ndarray:
    bins = [np.bincount(frame[..., channel].ravel() // 16, minlength=16) for channel in range(3)]
    return np.concatenate(bins) / (3 * frame[..., 0].size)


def write_shots(frames: Frames, folder: Path) -> int:
    """Write shot-START.mkv, lossless, for every shot, where START is its first frame in the film; return how many."""
    bounds = [0, *find_cuts(frames), len(frames)]
    for start, stop in zip(bounds, bounds[1:], strict=False):
        write_video(frames[start:stop], FPS, folder / f"shot-{start:05d}.mkv")
    return len(bounds) - 1


def write_video(frames: Frames, fps: int, path: Path) -> None:
    """Write a lossless video of frames of the film, with its attribution."""
    height, width = frames.shape[1:3]
    form = Encoding(rate=Fraction(fps), height=height, width=width, scale=1, crf=0, segment=fps, comment=ATTRIBUTION)
    writer = Mkv(form)
    parts = [writer.segment(first, frames[first : first + fps]) for first in range(0, len(frames), fps)]
    path.write_bytes(writer.header(len(frames)) + b"".join(parts))
