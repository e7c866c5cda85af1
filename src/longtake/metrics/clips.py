"""Clips of many videos, read one video after the other; only the clip at hand is in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longtake.data.pixels import centre_square
from longtake.errors import InputError
from longtake.metrics.video_sets import draw_clips
from longtake.video.read import count_frames, read_frames

Frames = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class ClipDraw:
    """Which clips are drawn, and how they are brought to one size."""

    num_frames: int
    """Frames of a clip, consecutive."""
    num_clips: int
    """Most clips of a set."""
    size: int | None
    """Side to which every frame is cropped and resized; None leaves it."""
    seed: int
    """What decides videos and places."""


@dataclass(frozen=True, kw_only=True)
class DrawnSet:
    """Videos, and where each of their clips starts."""

    videos: Sequence[Path]
    """Files or folders."""
    starts: Sequence[Sequence[int]]
    """For each video the first frames of its clips, rising."""
    num_skipped: int
    """Videos that are shorter than a clip."""
    unread: Sequence[str] = ()
    """Of each video that cannot be read, which it is and why; it gives no clip."""

    @property
    def num_clips(self) -> int:
        """Clips of the whole set."""
        return sum(map(len, self.starts))


def draw(videos: Sequence[Path], plan: ClipDraw) -> DrawnSet:
    """Choose the clips of a set. Reads how long every video is, but decodes none.

    A file that cannot be read is left out. Raises InputError where no video is long enough.
    """
    lengths, unread = [], []
    for video in videos:
        try:
            lengths.append(count_frames(video))
        except InputError as reason:
            lengths.append(0)
            unread.append(str(reason))
    if len(unread) == len(videos):
        raise InputError(f"none of the {len(videos)} videos can be read: {unread[0]}")
    if max(lengths) < plan.num_frames:
        raise InputError(
            f"no video beside {videos[0]} has {plan.num_frames} frames (the longest has {max(lengths)}); "
            f"use longer videos, or fewer --frames"
        )
    starts = draw_clips(lengths, plan.num_frames, plan.num_clips, plan.seed)
    num_short = sum(length < plan.num_frames for length in lengths) - len(unread)
    return DrawnSet(videos=videos, starts=starts, num_skipped=num_short, unread=unread)


def draw_alike(real: DrawnSet, copies: Sequence[Path]) -> DrawnSet:
    """Return the same clips of the copies of these videos; InputError for a copy of another length."""
    for video, copy, starts in zip(real.videos, copies, real.starts, strict=True):
        if not starts:
            continue
        lengths = count_frames(video), count_frames(copy)
        if lengths[0] != lengths[1]:
            raise InputError(f"{video} has {lengths[0]} frames and {copy} has {lengths[1]}; a pair has the same frames")
    return DrawnSet(videos=copies, starts=real.starts, num_skipped=real.num_skipped, unread=real.unread)


def read_clips(drawn: DrawnSet, plan: ClipDraw) -> Iterator[tuple[Path, Frames]]:
    """Yield every clip with its video, uint8 (num_frames, height, width, 3), in the order of the videos."""
    for video, starts in zip(drawn.videos, drawn.starts, strict=True):
        yield from ((video, clip) for clip in _clips(video, starts, plan))


def _clips(video: Path, starts: Sequence[int], plan: ClipDraw) -> Iterator[Frames]:
    if not starts:
        return
    held: list[Frames] = []
    waiting = iter(starts)
    start = next(waiting)
    frames = (frame for chunk in read_frames(video, stop=starts[-1] + plan.num_frames) for frame in chunk)
    for index, frame in enumerate(frames):
        if index < start:
            continue
        held.append(frame if plan.size is None else centre_square(frame[None], plan.size)[0])
        if len(held) == plan.num_frames:
            yield np.stack(held)
            held, start = [], next(waiting, starts[-1] + plan.num_frames)
    if start < starts[-1] + plan.num_frames:
        raise InputError(f"{video} ends before frame {start + plan.num_frames}, which it promises; leave it out")


def planes(clip: Frames) -> Tensor:
    """Return frames (n, height, width, 3) as float pictures (n, 3, height, width) in 0 to 255."""
    return torch.from_numpy(np.ascontiguousarray(clip)).permute(0, 3, 1, 2).float()
