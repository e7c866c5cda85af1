"""The arithmetic of published scores: Frechet and kernel distance of features, inception score, PSNR, SSIM."""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Features = NDArray[np.floating]
"""One row of numbers for each clip, (clips, features)."""
HIGHEST = 100.0
"""What identical clips are counted as, so that a mean of PSNR exists."""
_ROWS_AT_ONCE = 512


@dataclass(frozen=True, kw_only=True)
class ClipScores:
    """What scores of clips are of; each metric has its own beside."""

    features: int
    """Numbers that describe a clip."""
    width: int
    """Pixels of the frames."""
    height: int
    """Pixels of the frames."""


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Mean and spread of a set of feature rows."""

    mean: NDArray[np.float64]
    """Mean of each feature, (features,)."""
    covariance: NDArray[np.float64]
    """Covariance of the features, (features, features)."""


def gaussian(features: Features) -> Gaussian:
    """Return mean and unbiased covariance (divided by clips - 1) of at least two rows, in double precision."""
    assert features.ndim == 2 and len(features) > 1, features.shape
    rows = features.astype(np.float64)
    mean = rows.mean(axis=0)
    centred = rows - mean
    return Gaussian(mean=mean, covariance=centred.T @ centred / (len(rows) - 1))


def shrunk(features: Features) -> Gaussian:
    """Return mean and covariance of rows that are few beside their columns: the covariance is drawn towards that of
    independent columns of equal spread, by as much as lessens its expected error most (Ledoit and Wolf, 2004).

    With fewer rows than columns the plain covariance is flat in most directions, in others for another draw, so that
    equal sets seem far apart; shrunk ones are nearer to each other, though still not at 0.
    """
    plain = gaussian(features)
    num_rows, num_columns = features.shape
    centred = features.astype(np.float64) - plain.mean
    covariance = plain.covariance * (num_rows - 1) / num_rows
    spread = np.trace(covariance) / num_columns
    away = np.square(covariance).sum() - num_columns * spread**2
    error = (np.square(np.square(centred).sum(axis=1)).mean() - np.square(covariance).sum()) / num_rows
    weight = min(error / away, 1.0) if away > 0 else 0.0
    equal = weight * np.trace(plain.covariance) / num_columns * np.eye(num_columns)
    return Gaussian(mean=plain.mean, covariance=equal + (1 - weight) * plain.covariance)


def frechet_distance(real: Gaussian, fake: Gaussian) -> float:
    """Return |m - n|^2 + trace(C + D - 2 (C^1/2 D C^1/2)^1/2), in squared units of the features; 0 where they agree.

    The product in the root is symmetric, so its eigenvalues are real even where a covariance is singular, which it is
    with fewer clips than features. Over features of videos it is FVD (Unterthiner et al., arXiv 1812.01717).
    """
    root = _root(real.covariance)
    product = root @ fake.covariance @ root
    # Rounding makes a product slightly unsymmetric, and a zero eigenvalue slightly negative.
    values = np.linalg.eigvalsh((product + product.T) / 2).clip(min=0)
    apart = np.square(real.mean - fake.mean).sum()
    spread = np.trace(real.covariance) + np.trace(fake.covariance) - 2 * np.sqrt(values).sum()
    return float(apart + max(spread, 0.0))


def shrunk_distance(real: Features, fake: Features) -> float | None:
    """Return the Frechet distance of shrunk covariances; None where both sets have more rows than columns."""
    if min(len(real), len(fake)) > real.shape[1]:
        return None
    return frechet_distance(shrunk(real), shrunk(fake))


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def kernel_distance(real: Features, fake: Features) -> float:
    """Return the squared maximum mean discrepancy under the kernel (x.y / features + 1)^3; about 0 for equal sets.

    The estimate is unbiased (Gretton et al., JMLR 2012, eq. 3: no clip is compared with itself), so its expectation
    does not depend on the number of clips, and for equal distributions it is sometimes below 0. Needs two rows of each.
    Over features of videos it is KVD (Unterthiner et al., arXiv 1812.01717), in the units of KID (Binkowski et al.,
    arXiv 1801.01401).
    """
    assert real.ndim == fake.ndim == 2 and min(len(real), len(fake)) > 1, (real.shape, fake.shape)
    x, y = real.astype(np.float64), fake.astype(np.float64)
    return _within(x) + _within(y) - 2 * _sum(x, y) / (len(x) * len(y))


def _within(x: Features) -> float:
    own = np.power(np.square(x).sum(axis=1) / x.shape[1] + 1, 3).sum()
    return (_sum(x, x) - float(own)) / (len(x) * (len(x) - 1))


def _sum(x: Features, y: Features) -> float:
    """Return the sum of the kernel over all pairs, some rows at a time."""
    blocks = (x[start : start + _ROWS_AT_ONCE] for start in range(0, len(x), _ROWS_AT_ONCE))
    return float(sum(np.power(block @ y.T / x.shape[1] + 1, 3).sum() for block in blocks))


def inception_score(probabilities: NDArray[np.floating], num_parts: int = 1) -> tuple[float, float]:
    """Return mean and standard deviation over parts of exp(mean KL(p(class | clip) || p(class))).

    `probabilities` is (clips, classes), rows adding to 1; the score lies between 1 (all clips look alike, or like
    nothing) and the number of classes (every clip certain, all classes equally often), and cannot exceed the clips of a
    part. Clips are dealt to the parts in turn, so shuffle what has an order (Salimans et al., arXiv 1606.03498).
    """
    assert probabilities.ndim == 2 and 1 <= num_parts <= len(probabilities), (probabilities.shape, num_parts)
    scores = [_score(probabilities[part::num_parts].astype(np.float64)) for part in range(num_parts)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(probabilities: NDArray[np.float64]) -> float:
    marginal = np.broadcast_to(probabilities.mean(axis=0), probabilities.shape)
    # A class of probability 0 adds nothing: p log p goes to 0.
    present = probabilities > 0
    divergence = (probabilities[present] * np.log(probabilities[present] / marginal[present])).sum()
    return float(np.exp(divergence / len(probabilities)))


def psnr(clip: NDArray[np.uint8], again: NDArray[np.uint8]) -> float:
    """Return -10 log10 of the mean squared error of one clip, pixels in 0 to 1, in dB; 100 for identical clips.

    Arrays of the same shape. The mean runs over the whole clip, as in PVDM's validation (arXiv 2302.07685).
    """
    assert clip.shape == again.shape, (clip.shape, again.shape)
    error = np.square((clip.astype(np.float32) - again) / 255).mean(dtype=np.float64)
    return HIGHEST if error == 0 else min(float(-10 * np.log10(error)), HIGHEST)


def ssim(clip: NDArray[np.uint8], again: NDArray[np.uint8]) -> float:
    """Return the structural similarity of two clips: the mean over frames, places and colours; 1 for identical ones.

    Wang et al., 2004: a Gaussian window of 11 x 11 pixels with a standard deviation of 1.5, wholly inside the
    frame, and the constants 0.01 and 0.03. Arrays (frames, height, width, 3) of one shape, 11 pixels or more a side.
    """
    assert clip.shape == again.shape and min(clip.shape[1:3]) >= 11, (clip.shape, again.shape)
    weights = np.exp(-np.square(np.arange(-5, 6) / 1.5) / 2)
    window = weights / weights.sum()

    def blurred(picture: NDArray[np.float64]) -> NDArray[np.float64]:
        for axis in (1, 2):
            picture = sliding_window_view(picture, len(window), axis=axis) @ window  # pyright: ignore
        return picture

    x, y = clip / 255, again / 255
    mean_x, mean_y = blurred(x), blurred(y)
    spread = blurred(x * x) + blurred(y * y) - mean_x**2 - mean_y**2
    shared = blurred(x * y) - mean_x * mean_y
    alike = (2 * mean_x * mean_y + 0.01**2) * (2 * shared + 0.03**2)
    return float((alike / ((mean_x**2 + mean_y**2 + 0.01**2) * (spread + 0.03**2))).mean())
