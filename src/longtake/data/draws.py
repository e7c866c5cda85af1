"""Which clips a training step sees: index arithmetic, decided by a generator alone."""

from torch import Generator, randint

from longtake.data.footage import Footage
from longtake.errors import InputError

Window = tuple[int, int]
"""Number of a recording and the first frame of a clip in it."""


def draw_windows(footage: Footage, num_frames: int, num: int, generator: Generator) -> list[Window]:
    """Return `num` clips of `num_frames`: a recording, each equally likely, then a start in it, each equally likely.

    Recordings shorter than a clip are left out; InputError where all of them are.
    """
    fitting = _fitting(footage, num_frames)
    drawn = []
    for _ in range(num):
        recording = fitting[_below(len(fitting), generator)]
        drawn.append((recording, _below(footage.recordings[recording].num_frames - num_frames + 1, generator)))
    return drawn


def draw_pairs(footage: Footage, num_frames: int, num: int, generator: Generator) -> list[Window]:
    """Return starts of clips for `Footage.pair`: where a recording holds two clips, one that another precedes.

    In a recording of fewer than 2 x `num_frames` frames, any clip, which nothing precedes: PVDM's training
    (arXiv 2302.07685) fills its past up with empty frames and lets it count as unconditional. Recordings shorter than
    a clip are left out; InputError where all of them are.
    """
    fitting = _fitting(footage, num_frames)
    drawn = []
    for _ in range(num):
        recording = fitting[_below(len(fitting), generator)]
        last = footage.recordings[recording].num_frames - num_frames
        first = num_frames if last >= num_frames else 0
        drawn.append((recording, first + _below(last - first + 1, generator)))
    return drawn


def _fitting(footage: Footage, num_frames: int) -> list[int]:
    lengths = [recording.num_frames for recording in footage.recordings]
    fitting = [number for number, length in enumerate(lengths) if length >= num_frames]
    if not fitting:
        raise InputError(f"no recording has {num_frames} frames, the longest has {max(lengths)}; use shorter clips")
    return fitting


def _below(stop: int, generator: Generator) -> int:
    return int(randint(stop, (), generator=generator))
