"""Frechet video distance and its relatives between two sets of videos."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from longtake.data.footage import Frames
from longtake.errors import InputError
from longtake.metrics.clips import DrawnSet
from longtake.metrics.scores import (
    ClipScores,
    frechet_distance,
    gaussian,
    inception_score,
    kernel_distance,
    shrunk_distance,
)
from longtake.metrics.video_networks import Rows, VideoNetwork

_FRAMES_AT_ONCE = 128
_PARTS = 10
_FEWEST_PER_PART = 100


@dataclass(frozen=True, kw_only=True)
class SetScores(ClipScores):
    """How far a set of videos is from the real ones."""

    fvd: float
    """Frechet distance of the features."""
    fvd_floor: float | None
    """That of the clips of one half of the real videos from those of the other, half as many clips, so that it comes
    out larger: a distance below it cannot be told from none. None with fewer than two clips in a half."""
    fvd_shrunk: float | None
    """Frechet distance of covariances that are shrunk (see `shrunk`); None where clips are more than features."""
    kvd: float
    """Kernel distance of the features; about 0, and sometimes below, for equal sets."""
    kvd_floor: float | None
    """That of the same halves."""
    inception_score: float | None
    """Of the second set; None without a classifier."""
    inception_score_deviation: float | None
    """Over ten parts of the clips; None with fewer than 1,000 clips, which are one part."""
    clips_real: int
    """Clips of the first set."""
    clips_fake: int
    """Clips of the second set."""


@dataclass(frozen=True, kw_only=True)
class SetRows:
    """What networks see in a set of clips."""

    features: Rows
    """(clips, features)."""
    classes: Rows
    """(clips, classes); empty without a classifier."""
    videos: NDArray[np.int64]
    """Of each clip the number of its video."""


def score_sets(
    real: DrawnSet, fake: DrawnSet, network: VideoNetwork, classifier: VideoNetwork | None, seed: int
) -> SetScores:
    """Compare two sets of clips. Memory holds some clips and the features of all, about 2 kB each.

    Raises InputError for fewer than two clips of a set, and for frames of different sizes.
    """
    for what, drawn in (("the real videos", real), ("the videos to score", fake)):
        if drawn.num_clips < 2:
            raise InputError(
                f"{what} give one clip of {drawn.num_frames} frames alone ({drawn.footage.recordings[0].name}), and a "
                "distance takes two of each set; add videos, or ask for fewer --frames"
            )
    sizes: dict[tuple[int, int], str] = {}
    ours, theirs = _rows(real, sizes, network, None), _rows(fake, sizes, network, classifier)
    of_real, of_fake = ours.features, theirs.features
    mean, deviation = _inception(theirs.classes, seed) if len(theirs.classes) else (None, None)
    halves = split_halves(ours, seed)
    ((height, width),) = sizes
    return SetScores(
        fvd=frechet_distance(gaussian(of_real), gaussian(of_fake)),
        fvd_floor=frechet_distance(*map(gaussian, halves)) if halves else None,
        fvd_shrunk=shrunk_distance(of_real, of_fake),
        kvd=kernel_distance(of_real, of_fake),
        kvd_floor=kernel_distance(*halves) if halves else None,
        inception_score=mean,
        inception_score_deviation=deviation,
        features=of_real.shape[1],
        clips_real=len(of_real),
        clips_fake=len(of_fake),
        width=width,
        height=height,
    )


def split_halves(rows: SetRows, seed: int) -> tuple[Rows, Rows] | None:
    """Return the features of the clips of half of the videos, and those of the others; None where one has under two."""
    videos = np.random.default_rng(seed).permutation(np.unique(rows.videos))
    is_first = np.isin(rows.videos, videos[: len(videos) // 2])
    halves = rows.features[is_first], rows.features[~is_first]
    return halves if min(map(len, halves)) > 1 else None


def _rows(
    drawn: DrawnSet, sizes: dict[tuple[int, int], str], network: VideoNetwork, classifier: VideoNetwork | None
) -> SetRows:
    features, classes, videos = [], [], []
    clips = _same_size(drawn, sizes)
    while waiting := list(islice(clips, max(1, _FRAMES_AT_ONCE // drawn.num_frames))):
        batch = np.stack([clip for _, clip in waiting])
        videos += [number for number, _ in waiting]
        features.append(network.read(batch))
        if classifier is not None:
            classes.append(classifier.read(batch))
    return SetRows(
        features=np.concatenate(features),
        classes=np.concatenate(classes) if classes else np.empty((0, 0), np.float32),
        videos=np.array(videos, np.int64),
    )


def _same_size(drawn: DrawnSet, sizes: dict[tuple[int, int], str]) -> Iterator[tuple[int, Frames]]:
    """Yield the clips of a set; `sizes` remembers the size of all, over both sets."""
    for number, clip in drawn.clips():
        height, width = clip.shape[1:3]
        name = drawn.footage.recordings[number].name
        sizes.setdefault((height, width), name)
        if len(sizes) > 1:
            size, first = next(iter(sizes.items()))
            raise InputError(
                f"{name} has {width}x{height} pixels and {first} has {size[1]}x{size[0]}; "
                f"--size {min(*size, height, width)} crops and resizes all of them"
            )
        yield number, clip


def _inception(classes: Rows, seed: int) -> tuple[float, float | None]:
    parts = _PARTS if len(classes) >= _PARTS * _FEWEST_PER_PART else 1
    mean, deviation = inception_score(np.random.default_rng(seed).permutation(classes), parts)
    return mean, deviation if parts > 1 else None
