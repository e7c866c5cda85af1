"""Recordings, whatever they are stored in: any clip of any of them, to train on or to score."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, randint
from torch.nn.functional import interpolate

from longtake.data.sprite_captions import Shot
from longtake.errors import InputError

Frames = NDArray[np.uint8]

_NAMES_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One continuous video."""

    name: str
    """Path below the folder, or what else tells it from the others."""
    num_frames: int
    """Frames that can be read."""
    fps: float | None
    """Frames per second; None where it is not known."""
    read: Callable[[int, int], Iterable[Frames]]
    """Function of (start, stop), half open: the frames as they are stored, each (height, width, 3)."""
    label: str | None = None
    """Name of the class, or caption; None where there is none."""
    shot: Shot | None = None
    """What a sprite world shows."""


@dataclass(frozen=True, kw_only=True)
class Footage:
    """An ordered list of recordings, and the size at which they are read."""

    recordings: tuple[Recording, ...]
    """What can be read, always in the same order."""
    size: int | None
    """Side of the frames in pixels: the middle square, resized without blurring. None leaves frames as they are."""
    skipped: tuple[tuple[str, str], ...] = ()
    """Name and reason of what was found and cannot be used."""

    def clip(self, recording: int, start: int, stop: int) -> Frames:
        """Return frames start to stop (half open) of a recording, uint8 (frames, height, width, 3).

        Raises InputError, which names the file, where it turns out to be damaged, and for a change of size without one.
        """
        chosen = self.recordings[recording]
        assert 0 <= start < stop <= chosen.num_frames, (start, stop, chosen)
        return self._stacked(list(chosen.read(start, stop)), chosen)

    def clips(self, recording: int, num_frames: int) -> Iterator[Frames]:
        """Yield a recording in clips of so many frames, one after the other; a shorter rest at the end is left out."""
        chosen = self.recordings[recording]
        frames = iter(chosen.read(0, chosen.num_frames // num_frames * num_frames))
        while held := list(islice(frames, num_frames)):
            yield self._stacked(held, chosen)

    def _stacked(self, frames: list[Frames], recording: Recording) -> Frames:
        if self.size is not None:
            return np.concatenate([centre_square(frame[None], self.size) for frame in frames])
        if len({frame.shape for frame in frames}) > 1:
            raise InputError(f"{recording.name} changes its size on the way; cut it where it does, or give a --size")
        return np.stack(frames)

    def summary(self) -> str:
        """One line: what there is, and how many were skipped for which reasons; `skipped` names all of them."""
        num_frames = sum(recording.num_frames for recording in self.recordings)
        line = f"{len(self.recordings)} recording{'s' * (len(self.recordings) > 1)}, {num_frames} frames"
        if not self.skipped:
            return line
        return f"{line}; {len(self.skipped)} skipped: {_listed(self.skipped)}"


def gathered(
    found: Iterable[Recording | tuple[str, str]], *, size: int | None, min_frames: int, looked_for: str
) -> Footage:
    """Return footage of what was found, in that order: recordings, or name and reason of what cannot be used.

    Recordings with fewer than `min_frames` are skipped, too. Raises InputError where none is left; `looked_for` says
    what was searched for, and where.
    """
    recordings, skipped = [], []
    for one in found:
        if isinstance(one, tuple):
            skipped.append(one)
        elif one.num_frames < min_frames:
            skipped.append((one.name, f"{one.num_frames} of the {min_frames} frames needed"))
        else:
            recordings.append(one)
    if not recordings:
        why = f"all {len(skipped)} were skipped: {_listed(skipped)}" if skipped else "there is none"
        raise InputError(f"no videos: looked for {looked_for}; {why}")
    return Footage(recordings=tuple(recordings), size=size, skipped=tuple(skipped))


def held_out(footage: Footage, every: int) -> tuple[Footage, Footage]:
    """Split into training and evaluation: recordings number every, 2 every, 3 every, ... (from 1) are held back.

    Raises InputError where that leaves one side empty.
    """
    if not 2 <= every <= len(footage.recordings):
        raise InputError(
            f"cannot hold back every {every}th of {len(footage.recordings)} recordings; "
            f"give a number from 2 to the number of recordings"
        )
    back = footage.recordings[every - 1 :: every]
    kept = tuple(one for number, one in enumerate(footage.recordings, 1) if number % every)
    return replace(footage, recordings=kept), replace(footage, recordings=back)


def in_memory(footage: Footage) -> Footage:
    """Return the same footage with all its frames read once and kept: size x size x 3 bytes each.

    Raises InputError for a file that turns out to be damaged.
    """
    kept = [
        replace(recording, read=partial(_slice, footage.clip(number, 0, recording.num_frames)))
        for number, recording in enumerate(footage.recordings)
    ]
    return replace(footage, recordings=tuple(kept))


def draw_windows(footage: Footage, num_frames: int, num: int, generator: Generator) -> list[tuple[int, int]]:
    """Return recording and first frame of `num` clips of `num_frames`: each recording equally likely, then each start.

    A generator alone decides. Recordings shorter than a clip are left out; InputError where all of them are.
    """
    lengths = [recording.num_frames for recording in footage.recordings]
    fitting = [number for number, length in enumerate(lengths) if length >= num_frames]
    if not fitting:
        raise InputError(f"no recording has {num_frames} frames, the longest has {max(lengths)}; use shorter clips")
    drawn = []
    for _ in range(num):
        recording = fitting[_below(len(fitting), generator)]
        drawn.append((recording, _below(lengths[recording] - num_frames + 1, generator)))
    return drawn


def centre_square(frames: NDArray[np.uint8], size: int, antialias: bool = False) -> NDArray[np.uint8]:
    """Cut the middle square out of each frame, and resize it to size x size: bilinear between pixel centres, rounded.

    Frames are (frames, height, width, 3). Without `antialias` nothing is blurred before: PVDM's data, and most
    published numbers, are made that way (arXiv 2302.07685).
    """
    height, width = frames.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = frames[:, top : top + side, left : left + side].copy()
    if side == size:
        return square
    planes = torch.from_numpy(square).permute(0, 3, 1, 2).float()
    resized = interpolate(planes, size=(size, size), mode="bilinear", align_corners=False, antialias=antialias)
    return resized.round().clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8).numpy()


def _below(stop: int, generator: Generator) -> int:
    return int(randint(stop, (), generator=generator))


def _slice(frames: Frames, start: int, stop: int) -> Frames:
    return frames[start:stop]


def _listed(skipped: Sequence[tuple[str, str]]) -> str:
    shown = "; ".join(f"{name} ({reason})" for name, reason in skipped[:_NAMES_SHOWN])
    return shown + (f"; and {len(skipped) - _NAMES_SHOWN} more" if len(skipped) > _NAMES_SHOWN else "")
