"""Which clips of which recordings a set is judged by, and their frames; only the clip at hand is in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np
import torch
from torch import Tensor

from longtake.data.footage import Footage, Frames
from longtake.errors import InputError


@dataclass(frozen=True, kw_only=True)
class DrawnSet:
    """Recordings, and where each of their clips starts."""

    footage: Footage
    """The recordings, and the size at which they are read."""
    num_frames: int
    """Frames of a clip, consecutive."""
    starts: Sequence[Sequence[int]]
    """For each recording the first frames of its clips, rising."""

    @property
    def num_clips(self) -> int:
        """Clips of the whole set."""
        return sum(map(len, self.starts))

    @property
    def num_videos(self) -> int:
        """Recordings that give a clip."""
        return sum(map(bool, self.starts))

    def clips(self) -> Iterator[tuple[int, Frames]]:
        """Yield every clip with the number of its recording, uint8 (num_frames, height, width, 3), in order."""
        for number, starts in enumerate(self.starts):
            for start in starts:
                yield number, self.footage.clip(number, start, start + self.num_frames)


def draw(footage: Footage, num_frames: int, num_clips: int, seed: int) -> DrawnSet:
    """Choose at most `num_clips` clips of a set, without decoding anything."""
    lengths = [recording.num_frames for recording in footage.recordings]
    starts = draw_clips(lengths, num_frames, num_clips, seed)
    return DrawnSet(footage=footage, num_frames=num_frames, starts=starts)


def draw_alike(real: DrawnSet, copies: Footage) -> DrawnSet:
    """Return the same clips of the recordings of the same names, whatever their endings, in another set.

    Raises InputError for one that is missing there, or of another length.
    """
    originals, others = real.footage.recordings, copies.recordings
    named = {_stem(one.name): one for one in others}
    chosen = []
    for original, starts in zip(originals, real.starts, strict=True):
        copy = others[0] if len(originals) == len(others) == 1 else named.get(_stem(original.name))
        if copy is None and starts:
            raise InputError(f"there is no copy of {original.name}; both folders need the same names, whatever endings")
        if copy is not None and starts and copy.num_frames != original.num_frames:
            lengths = f"{original.name} has {original.num_frames} frames and {copy.name} has {copy.num_frames}"
            raise InputError(f"{lengths}; a pair has the same frames")
        chosen.append(copy or original)
    return replace(real, footage=replace(copies, recordings=tuple(chosen)))


def _stem(name: str) -> str:
    return str(PurePath(name).with_suffix(""))


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


def planes(clip: Frames) -> Tensor:
    """Return frames (n, height, width, 3) as float pictures (n, 3, height, width) in 0 to 255."""
    return torch.from_numpy(np.ascontiguousarray(clip)).permute(0, 3, 1, 2).float()
