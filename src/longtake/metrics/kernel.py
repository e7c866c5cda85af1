"""Kernel distance: how far apart two sets lie, without taking them for Gaussians."""

import numpy as np

from longtake.metrics.frechet import Features

_ROWS_AT_ONCE = 512


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
