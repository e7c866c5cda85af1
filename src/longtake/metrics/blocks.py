"""How good long videos are from their first frames to their last: Avg-FID and Block-FVD, part by part.

Yin et al., ACL 2023, arXiv 2303.12346, section 4.2: FID of single frames, averaged, and FVD of short blocks, averaged.
Which blocks are compared with which, the paper does not say; here those at one place of the generated videos with those
at the same place of real ones.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from longtake.data.footage import Frames
from longtake.errors import InputError
from longtake.metrics.scores import frechet_distance, gaussian, kernel_distance, shrunk_distance
from longtake.metrics.video_networks import Rows, VideoNetwork

_BLOCKS_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class BlockRows:
    """What the networks see in the blocks of one video."""

    clips: Rows
    """(blocks, features of a clip)."""
    frames: Rows
    """(blocks, frames, features of a frame)."""


@dataclass(frozen=True, kw_only=True)
class BlockScores:
    """Distances from real videos; every curve has a number for each part, from start to end."""

    block_fvd: float
    """Mean of `fvd`."""
    avg_fid: float
    """Mean of `fid`."""
    fvd: tuple[float, ...]
    """Frechet distance of the part's blocks."""
    kvd: tuple[float, ...]
    """Kernel distance of the same features, which does not depend on their number."""
    fid: tuple[float, ...]
    """Frechet distance of the part's frames."""
    clips_per_part: int
    """Generated blocks of the smallest part."""
    block_fvd_shrunk: float | None
    """`block_fvd` by shrunk covariances (`scores.shrunk`); None where a part has more blocks than features."""
    block_fvd_floor: float | None
    """`block_fvd` of one half of the real videos from the other half, half as many blocks, so that it comes out larger;
    None where a half has under two blocks of a part. A distance below it cannot be told from none."""
    avg_fid_floor: float | None
    """`avg_fid` of the same halves."""


def read_blocks(blocks: Iterable[Frames], of_clips: VideoNetwork, of_frames: VideoNetwork) -> BlockRows:
    """Show the consecutive blocks of a video to both networks, in memory that grows by its features alone.

    `of_frames` is given clips of one frame.
    """
    clips, frames = [], []
    waiting = iter(blocks)
    while held := list(islice(waiting, _BLOCKS_AT_ONCE)):
        batch = np.stack(held)
        clips.append(of_clips.read(batch))
        single = of_frames.read(batch.reshape(-1, 1, *batch.shape[2:]))
        frames.append(single.reshape(*batch.shape[:2], -1))
    return BlockRows(clips=np.concatenate(clips), frames=np.concatenate(frames))


def score_blocks(real: Sequence[BlockRows], fake: Sequence[BlockRows], parts: int | None) -> BlockScores:
    """Compare two sets of videos, whose blocks are pooled in so many parts of the length; what is longer than the
    shortest video is left out. None makes every block a part, which takes far more videos than there are features.

    Raises InputError where a part would have fewer than two blocks of either set, or none at all.
    """
    length = min(len(rows.clips) for rows in (*real, *fake))
    parts = length if parts is None else parts
    if parts > length or min(len(real), len(fake)) * (length // parts) < 2:
        raise InputError(
            f"{parts} parts of {length} blocks leave fewer than 2 blocks for a part of {min(len(real), len(fake))} "
            "videos; use fewer parts, or more videos"
        )
    places = np.array_split(np.arange(length), parts)
    fvd, kvd, fid, apart = _curves(real, fake, places)
    halves = real[: len(real) // 2], real[len(real) // 2 :]
    has_floor = min(map(len, halves)) * min(map(len, places)) > 1
    floor = _curves(*halves, places) if has_floor else None
    return BlockScores(
        block_fvd=float(np.mean(fvd)),
        avg_fid=float(np.mean(fid)),
        fvd=fvd,
        kvd=kvd,
        fid=fid,
        clips_per_part=len(fake) * min(map(len, places)),
        block_fvd_shrunk=None if None in apart else float(np.mean(apart)),  # pyright: ignore[reportCallIssue, reportArgumentType]
        block_fvd_floor=float(np.mean(floor[0])) if floor else None,
        avg_fid_floor=float(np.mean(floor[2])) if floor else None,
    )


def _curves(
    real: Sequence[BlockRows], fake: Sequence[BlockRows], places: Sequence[NDArray[np.int64]]
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], list[float | None]]:
    """Return of each part the distances of clips, plain and by the kernel, those of frames, and the shrunk ones."""
    fvd, kvd, fid, apart = [], [], [], []
    for place in places:
        clips = [np.concatenate([rows.clips[place] for rows in videos]) for videos in (real, fake)]
        frames = [np.concatenate([rows.frames[place].reshape(-1, rows.frames.shape[-1]) for rows in videos])
                  for videos in (real, fake)]  # fmt: skip
        fvd.append(frechet_distance(*map(gaussian, clips)))
        kvd.append(kernel_distance(*clips))
        fid.append(frechet_distance(*map(gaussian, frames)))
        apart.append(shrunk_distance(*clips))
    return tuple(fvd), tuple(kvd), tuple(fid), apart
