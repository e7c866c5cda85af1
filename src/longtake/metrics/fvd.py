"""Frechet video distance and its relatives between two sets of videos."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from longtake.errors import InputError
from longtake.metrics.clips import ClipDraw, DrawnSet, Frames, read_clips
from longtake.metrics.scores import frechet_distance, gaussian, inception_score, kernel_distance, psnr
from longtake.metrics.video_networks import Rows, VideoNetwork

PUBLISHED_CLIPS = 2048
PUBLISHED_FRAMES = (16, 128)
_FRAMES_AT_ONCE = 128
_PARTS = 10
_FEWEST_PER_PART = 100


@dataclass(frozen=True, kw_only=True)
class SetScores:
    """How far a set of videos is from the real ones."""

    fvd: float
    """Frechet distance of the features."""
    kvd: float
    """Kernel distance of the features; about 0, and sometimes below, for equal sets."""
    inception_score: float | None
    """Of the second set; None without a classifier."""
    inception_score_deviation: float | None
    """Over ten parts of the clips; None with fewer than 1,000 clips, which are one part."""
    features: int
    """Numbers that describe a clip."""
    clips_real: int
    """Clips of the first set."""
    clips_fake: int
    """Clips of the second set."""


def score_sets(
    real: DrawnSet, fake: DrawnSet, plan: ClipDraw, network: VideoNetwork, classifier: VideoNetwork | None
) -> SetScores:
    """Compare two sets of clips. Memory holds some clips and the features of all, about 2 kB each.

    Raises InputError for fewer than two clips of a set, and for frames of different sizes.
    """
    for drawn in (real, fake):
        if drawn.num_clips < 2:
            raise InputError(f"beside {drawn.videos[0]} is one clip only, and a distance needs two; add videos")
    sizes: dict[tuple[int, int], Path] = {}
    of_real, _ = _rows(real, plan, sizes, network, None)
    of_fake, classes = _rows(fake, plan, sizes, network, classifier)
    mean, deviation = _inception(classes, plan.seed) if len(classes) else (None, None)
    return SetScores(
        fvd=frechet_distance(gaussian(of_real), gaussian(of_fake)),
        kvd=kernel_distance(of_real, of_fake),
        inception_score=mean,
        inception_score_deviation=deviation,
        features=of_real.shape[1],
        clips_real=len(of_real),
        clips_fake=len(of_fake),
    )


def mean_psnr(real: DrawnSet, fake: DrawnSet, plan: ClipDraw) -> float:
    """Return the mean PSNR of clips and their reconstructions, in dB; both sets drawn alike.

    Raises InputError for a pair of different sizes.
    """
    values = []
    for (video, clip), (copy, again) in zip(read_clips(real, plan), read_clips(fake, plan), strict=True):
        if clip.shape != again.shape:
            raise _unlike(copy, again, video, clip.shape[1:3])
        values.append(psnr(clip, again))
    return float(np.mean(values))


def _rows(
    drawn: DrawnSet,
    plan: ClipDraw,
    sizes: dict[tuple[int, int], Path],
    network: VideoNetwork,
    classifier: VideoNetwork | None,
) -> tuple[Rows, Rows]:
    features, classes = [], []
    clips = _same_size(drawn, plan, sizes)
    while waiting := list(islice(clips, max(1, _FRAMES_AT_ONCE // plan.num_frames))):
        batch = np.stack(waiting)
        features.append(network.read(batch))
        if classifier is not None:
            classes.append(classifier.read(batch))
    return np.concatenate(features), np.concatenate(classes) if classes else np.empty((0, 0), np.float32)


def _same_size(drawn: DrawnSet, plan: ClipDraw, sizes: dict[tuple[int, int], Path]) -> Iterator[Frames]:
    """Yield the clips of a set; `sizes` remembers the size of all, over both sets."""
    for video, clip in read_clips(drawn, plan):
        height, width = clip.shape[1:3]
        sizes.setdefault((height, width), video)
        if len(sizes) > 1:
            size, first = next(iter(sizes.items()))
            raise _unlike(video, clip, first, size)
        yield clip


def _unlike(video: Path, clip: Frames, first: Path, size: tuple[int, ...]) -> InputError:
    return InputError(
        f"{video} has {clip.shape[2]}x{clip.shape[1]} pixels and {first} has {size[1]}x{size[0]}; "
        f"--size {min(*size, *clip.shape[1:3])} crops and resizes all of them"
    )


def _inception(classes: Rows, seed: int) -> tuple[float, float | None]:
    parts = _PARTS if len(classes) >= _PARTS * _FEWEST_PER_PART else 1
    mean, deviation = inception_score(np.random.default_rng(seed).permutation(classes), parts)
    return mean, deviation if parts > 1 else None
