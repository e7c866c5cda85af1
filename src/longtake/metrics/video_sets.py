"""Which clips of which videos a set is judged by: names and index arithmetic, without opening a file."""

from pathlib import Path

import numpy as np

from longtake.errors import InputError
from longtake.video.files import VIDEO_ENDINGS
from longtake.video.files import find_videos as video_files
from longtake.video.paths import frame_file


def find_videos(root: Path) -> list[Path]:
    """Return the videos in a folder and the folders in it, in natural order: files, and folders of numbered PNG files.

    `root` may be one video itself. Raises InputError where there is none.
    """
    if not root.exists():
        raise InputError(f"there is no {root}; give a folder of videos")
    if root.is_file() or frame_file(root, 0).exists():
        return [root]
    found = video_files(root, lambda folder: frame_file(folder, 0).exists())
    if not found:
        known = " ".join(sorted(VIDEO_ENDINGS))
        raise InputError(f"{root} holds no videos: no {known} file, no folder of numbered PNG files (000000.png ...)")
    return found


def pair_videos(real_root: Path, real: list[Path], fake_root: Path, fake: list[Path]) -> list[tuple[Path, Path]]:
    """Return each real video with the one of the same name, whatever the ending, in the other folder.

    Raises InputError for a video that has no partner.
    """
    originals, copies = _by_name(real_root, real), _by_name(fake_root, fake)
    alone = sorted(originals.keys() ^ copies.keys())
    if alone:
        missing = fake_root if alone[0] in originals else real_root
        raise InputError(f"{missing} holds no video named {alone[0]!r}; --paired needs the same names in both folders")
    return [(originals[name], copies[name]) for name in sorted(originals)]


def _by_name(root: Path, videos: list[Path]) -> dict[str, Path]:
    if videos == [root]:
        return {"": root}
    named: dict[str, Path] = {}
    for video in videos:
        name = str(video.relative_to(root).with_suffix(""))
        if name in named:
            raise InputError(f"{named[name]} and {video} share a name, so --paired cannot tell them apart; rename one")
        named[name] = video
    return named


def draw_clips(lengths: list[int], num_frames: int, num_clips: int, seed: int) -> list[list[int]]:
    """Return for each video the first frames of the clips to take from it, rising, at most `num_clips` in all.

    With enough videos that is one clip each, at a random start, so that long videos count no more than short ones. With
    fewer, each gives a second clip and so on, as long as its clips do not overlap. `lengths` are numbers of frames; a
    video shorter than `num_frames` gives none.
    """
    rng = np.random.default_rng(seed)
    room = np.array([length // num_frames for length in lengths], dtype=np.int64)
    counts = np.zeros_like(room)
    while (left := num_clips - int(counts.sum())) > 0 and (counts < room).any():
        counts[rng.permutation(np.flatnonzero(counts < room))[:left]] += 1
    return [_starts(rng, length, num_frames, int(count)) for length, count in zip(lengths, counts, strict=True)]


def _starts(rng: np.random.Generator, length: int, num_frames: int, count: int) -> list[int]:
    """Place clips at random without overlap: the frames to spare are shared out at random before, between and after."""
    spare = np.sort(rng.integers(0, length - count * num_frames + 1, size=count))
    return [int(place) + index * num_frames for index, place in enumerate(spare)]
