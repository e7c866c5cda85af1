"""How good long videos are from their first frames to their last: Avg-FID and Block-FVD, part by part.

Yin et al., ACL 2023, arXiv 2303.12346, section 4.2: FID of single frames, averaged, and FVD of short blocks, averaged.
Which blocks are compared with which, the paper does not say; here those at one place of the generated videos with those
at the same place of real ones.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from longtake.data.pixels import centre_square
from longtake.errors import InputError
from longtake.metrics.clips import Frames
from longtake.metrics.scores import frechet_distance, gaussian, kernel_distance
from longtake.metrics.video_networks import Rows, VideoNetwork

_BLOCKS_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class BlockPlan:
    """How videos are cut, and how they are brought to one size."""

    num_frames: int = 16
    """Frames of a block; a shorter rest at the end is left out."""
    size: int | None = None
    """Side to which every frame is cropped and resized; None leaves it."""


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


def read_blocks(
    chunks: Iterable[Frames], plan: BlockPlan, of_clips: VideoNetwork, of_frames: VideoNetwork
) -> BlockRows:
    """Show a video, given as consecutive frames, to both networks, in memory that grows by its features alone.

    `of_frames` is given clips of one frame. Raises InputError for a video without a whole block.
    """
    clips, frames, waiting = [], [], []
    for block in _blocks(chunks, plan):
        waiting.append(block)
        if len(waiting) == _BLOCKS_AT_ONCE:
            _show(waiting, clips, frames, of_clips, of_frames)
            waiting = []
    if waiting:
        _show(waiting, clips, frames, of_clips, of_frames)
    if not clips:
        raise InputError(f"a video has fewer than {plan.num_frames} frames; use longer videos, or shorter blocks")
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
    fvd, kvd, fid = [], [], []
    for place in places:
        clips = [np.concatenate([rows.clips[place] for rows in videos]) for videos in (real, fake)]
        frames = [np.concatenate([rows.frames[place].reshape(-1, rows.frames.shape[-1]) for rows in videos])
                  for videos in (real, fake)]  # fmt: skip
        fvd.append(frechet_distance(gaussian(clips[0]), gaussian(clips[1])))
        kvd.append(kernel_distance(*clips))
        fid.append(frechet_distance(gaussian(frames[0]), gaussian(frames[1])))
    return BlockScores(
        block_fvd=float(np.mean(fvd)),
        avg_fid=float(np.mean(fid)),
        fvd=tuple(fvd),
        kvd=tuple(kvd),
        fid=tuple(fid),
        clips_per_part=len(fake) * min(map(len, places)),
    )


def _blocks(chunks: Iterable[Frames], plan: BlockPlan) -> Iterator[Frames]:
    held: list[Frames] = []
    for chunk in chunks:
        held += list(chunk if plan.size is None else centre_square(chunk, plan.size))
        while len(held) >= plan.num_frames:
            yield np.stack(held[: plan.num_frames])
            held = held[plan.num_frames :]


def _show(
    blocks: list[Frames], clips: list[Rows], frames: list[Rows], of_clips: VideoNetwork, of_frames: VideoNetwork
) -> None:
    batch = np.stack(blocks)
    clips.append(of_clips.read(batch))
    single = of_frames.read(batch.reshape(-1, 1, *batch.shape[2:]))
    frames.append(single.reshape(*batch.shape[:2], -1))
