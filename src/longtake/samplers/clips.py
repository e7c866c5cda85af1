"""Index arithmetic of a video in clips: who holds which frames, and which frames every frame looks at.

A clip is a range of consecutive frames. Clips are a setting of the sampler; processes only share them out.
"""

from collections.abc import Sequence
from functools import lru_cache


def split_evenly(total: int, parts: int) -> tuple[range, ...]:
    """Return `parts` consecutive ranges that tile `total`, none more than one longer than another."""
    edges = [total * part // parts for part in range(parts + 1)]
    return tuple(range(start, stop) for start, stop in zip(edges, edges[1:], strict=False))


def held_frames(clips: Sequence[range], ranks: int) -> tuple[range, ...]:
    """Return the frames that every rank holds: neighbouring clips, as evenly as whole clips allow."""
    shares = [clips[share.start : share.stop] for share in split_evenly(len(clips), ranks)]
    return tuple(range(share[0].start, share[-1].stop) for share in shares)


def around(frames: range, reach: int, total: int) -> range:
    """Return the frames of a video that lie among or within `reach` of these."""
    return range(max(0, frames.start - reach), min(total, frames.stop + reach))


def missing(wanted: range, frames: range) -> tuple[int, ...]:
    """Return what is wanted beyond the frames that are there."""
    return (*range(wanted.start, frames.start), *range(frames.stop, wanted.stop))


@lru_cache(maxsize=64)
def halos(held: tuple[range, ...], reach: int, total: int) -> tuple[tuple[int, ...], ...]:
    """Return for every rank the frames within `reach` of its own that others hold."""
    return tuple(missing(around(frames, reach, total), frames) for frames in held)


def spread_frames(total: int, count: int) -> tuple[int, ...]:
    """Return `count` frames in the middles of as many equal parts of the video, all of them where it has fewer."""
    count = min(count, total)
    return tuple((2 * part + 1) * total // (2 * count) for part in range(count))


def released_global_frames(clips: Sequence[range], top_k: int) -> tuple[int, ...]:
    """Return the global frames of Video-Infinity's release: a stride through every clip from its start, then a cut.

    Where the share of a clip does not divide its length, the clips offer too many, and the last ones lose theirs.
    """
    share = top_k // len(clips)
    offered: list[int] = []
    for clip in clips:
        stride = max(len(clip) // share, 1) if share else len(clip)
        offered += clip[::stride]
    return tuple(offered[:top_k])
