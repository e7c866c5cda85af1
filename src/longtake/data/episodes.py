"""Folders of long videos with captions that change along the way, and which of their frames a training clip takes.

ROOT/EPISODE/captions.jsonl    a line for every caption: {"frame": 120, "text": "a red car"} from that frame until the
                               next line's, or {"start": 120, "stop": 240, "text": "a red car"} for these frames alone
ROOT/EPISODE/                  beside it one video file, or pictures with the number of the frame in their names

The layout is one into which NUWA-XL's FlintstonesHD (ACL 2023, arXiv 2303.12346) would go.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Generator, randint

from longtake.data.footage import Footage, Recording, gathered
from longtake.data.footage_files import OpenVideo, frame_folder
from longtake.errors import InputError
from longtake.reading import check_file
from longtake.typed import read_typed
from longtake.video.files import VIDEO_ENDINGS, is_ours, subfolders

CAPTIONS = "captions.jsonl"


@dataclass(frozen=True, kw_only=True)
class Captions:
    """What every frame of a video shows: `texts[i]` from `starts[i]` to `stops[i]`, half open, None to the next."""

    starts: tuple[int, ...]
    stops: tuple[int | None, ...]
    texts: tuple[str, ...]

    def at(self, frame: int) -> str:
        """Return the caption of a frame; the empty one where there is none."""
        number = bisect_right(self.starts, frame) - 1
        if number < 0:
            return ""
        stop = self.stops[number]
        return self.texts[number] if stop is None or frame < stop else ""


@dataclass(frozen=True, kw_only=True)
class Episodes:
    """Long videos with their captions."""

    footage: Footage
    """The videos, read by frame number."""
    captions: tuple[Captions, ...]
    """Of each recording, in the same order."""


def episode_folders(root: Path, *, size: int | None, min_frames: int, open_video: OpenVideo) -> Episodes:
    """Return the episodes in a folder, in natural order; see the top of this file for the layout.

    Frames are those of the file: they are numbered as the captions number them. What cannot be used is in
    `footage.skipped` with the reason. Raises InputError where nothing can be used.
    """
    if not root.is_dir():
        raise InputError(f"there is no folder {root}; give one that holds a folder for every episode")
    folders = subfolders(root)
    captions: dict[str, Captions] = {}

    def found() -> Iterator[Recording | tuple[str, str]]:
        for folder in folders:
            try:
                captions[folder.name] = read_captions(folder / CAPTIONS)
                yield _recording(folder, open_video)
            except InputError as reason:
                yield folder.name, str(reason)

    footage = gathered(found(), size=size, min_frames=min_frames, looked_for=f"folders with a {CAPTIONS} in {root}")
    return Episodes(footage=footage, captions=tuple(captions[one.name] for one in footage.recordings))


def labelled(footage: Footage) -> Episodes:
    """Return recordings as episodes that show what their label says from start to end."""
    captions = (Captions(starts=(0,), stops=(None,), texts=(one.label or "",)) for one in footage.recordings)
    return Episodes(footage=footage, captions=tuple(captions))


def read_captions(path: Path) -> Captions:
    """Return the captions in a file of JSON lines, whatever their order.

    Raises InputError, with the number of the line, for one that is none, and for two that overlap.
    """
    try:
        check_file(path)
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise InputError(f"{path} cannot be read ({why}); every episode needs its captions") from None
    entries = sorted(_entry(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip())
    if not entries:
        raise InputError(f"{path} holds no caption; write a line for every caption")
    for (start, stop, _), (following, _, _) in zip(entries, entries[1:], strict=False):
        if following == start or stop > following:
            raise InputError(f"{path}: two captions hold at frame {following}; let one end where the next starts")
    starts, stops, texts = zip(*entries, strict=True)
    return Captions(starts=starts, stops=tuple(stop or None for stop in stops), texts=texts)


def draw_node(num_frames: int, level: int, strides: Sequence[int], length: int, generator: Generator) -> range:
    """Return the frames of a random clip at a level of the tree, in a video of `num_frames`.

    The tree's span, `length` frames `strides[0]` apart, lies anywhere in the video; in it the clip is any node of the
    level, `length` frames `strides[level]` apart that start and end on frames of the level above. Raises InputError for
    a video that is shorter than the span.
    """
    span = strides[0] * (length - 1) + 1
    if num_frames < span:
        raise InputError(f"a video of {num_frames} frames holds no span of {span}; use fewer levels or a longer video")
    stride = strides[level]
    offset = int(randint(num_frames - span + 1, (), generator=generator))
    node = int(randint(strides[0] // stride, (), generator=generator))
    start = offset + node * stride * (length - 1)
    return range(start, start + stride * length, stride)


def _recording(folder: Path, open_video: OpenVideo) -> Recording | tuple[str, str]:
    videos = [file for file in folder.iterdir() if is_ours(file.name) and file.suffix.lower() in VIDEO_ENDINGS]
    if not videos:
        return frame_folder(folder, folder.name)
    if len(videos) > 1:
        raise InputError(f"it holds {len(videos)} videos; an episode is one")
    source = open_video(videos[0])
    return Recording(name=folder.name, num_frames=source.num_frames, fps=source.fps, read=source.read)


@dataclass(frozen=True, kw_only=True)
class _Line:
    """A line of captions.jsonl."""

    text: str
    frame: int | None = None
    start: int | None = None
    stop: int | None = None

    def __post_init__(self) -> None:
        if (self.frame is None) == (self.start is None) or (self.start is None) != (self.stop is None):
            raise InputError("it should say frame and text, or start, stop and text")
        if self.first < 0 or (self.stop is not None and self.stop <= self.first):
            raise InputError("frames are numbers from 0 on, and stop is above start")

    @property
    def first(self) -> int:
        """The first frame that shows it."""
        return (self.frame if self.start is None else self.start) or 0


def _entry(line: str, where: str) -> tuple[int, int, str]:
    """Return start, stop (0: until the next) and text of a line."""
    read = read_typed(_Line, line.encode(), where)
    return read.first, read.stop or 0, read.text
