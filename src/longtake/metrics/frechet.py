"""Frechet distance: how far apart two sets lie, each taken for a Gaussian (Dowson and Landau, 1982)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]
"""One row of numbers for each clip, (clips, features)."""


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


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
