"""Index arithmetic of a video in clips: who holds which frames, and which frames every frame looks at; and of windows
that slide over it: where they begin, what each counts, and whose noise a frame has.

A clip is a range of consecutive frames. Clips are a setting of the sampler; processes only share them out.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal

Weighting = Literal["pyramid", "flat", "delayed_reverse_sawtooth"]
NoiseType = Literal["shuffle_context", "repeat_context", "random"]
Shuffled = Callable[[int, int], list[int]]
"""Returns the numbers below the second number in random order, a draw by the first one."""

SLIGHT = 0.01
"""Weight of the first half of a window in the delayed sawtooth."""


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


def sliding_windows(total: int, length: int, stride: int) -> tuple[range, ...]:
    """Return windows of a video, the last of which ends where it does, if nearer to the one before than the others."""
    last = total - length
    return tuple(range(start, start + length) for start in [*range(0, last, stride), last])


def noise_sources(total: int, length: int, stride: int, kind: NoiseType, shuffled: Shuffled) -> list[int]:
    """Return for every latent frame the frame whose draw of noise it has: after the first window that of a frame one
    window before, in groups of one stride whose order is random (FreeNoise, arXiv 2310.15169, section 3.2)."""
    if kind == "random":
        return list(range(total))
    if kind == "repeat_context":
        return [frame % length for frame in range(total)]
    sources = list(range(length))
    for start in range(length, total, stride):
        group = sources[start - length :][:stride]
        sources += [group[place] for place in shuffled(start, len(group))]
    return sources[:total]


def window_weights(length: int, scheme: Weighting) -> list[float]:
    """Return how much a window counts in each of its frames, as diffusers names and computes it."""
    falling = [float(min(place + 1, length - place)) for place in range(length)]
    match scheme:
        case "flat":
            return [1.0] * length
        case "pyramid":
            return falling
        case "delayed_reverse_sawtooth":
            rising = (length - 1) // 2
            return [SLIGHT] * rising + falling[rising:]
