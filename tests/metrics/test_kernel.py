import numpy as np
import pytest

from longtake.metrics.kernel import kernel_distance

RNG = np.random.default_rng(1)


def over_all_pairs(x: np.ndarray, y: np.ndarray) -> float:
    def mean(a: np.ndarray, b: np.ndarray, *, same: bool) -> float:
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (same and i == j)]
        return float(np.mean([(a[i] @ b[j] / a.shape[1] + 1) ** 3 for i, j in pairs]))

    return mean(x, x, same=True) + mean(y, y, same=True) - 2 * mean(x, y, same=False)


def test_it_is_the_mean_over_pairs():
    x, y = RNG.normal(size=(7, 5)), RNG.normal(size=(4, 5)) + 1
    assert kernel_distance(x, y) == pytest.approx(over_all_pairs(x, y))


def test_many_rows_are_summed_in_blocks():
    x, y = RNG.normal(size=(1100, 6)), RNG.normal(size=(700, 6)) + 0.2
    (xx, yy, xy) = ((a @ b.T / 6 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = sum((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (xx, yy))
    assert kernel_distance(x, y) == pytest.approx(within - 2 * xy.mean())


def test_equal_distributions_are_at_zero_on_average_however_few_clips():
    draws = [kernel_distance(RNG.normal(size=(4, 8)), RNG.normal(size=(4, 8))) for _ in range(4000)]
    error = np.std(draws) / np.sqrt(len(draws))
    assert abs(np.mean(draws)) < 4 * error
    # Comparing each row with itself, too, would add about (1 + 1)^3 / 4 for each set.
    assert error < 0.1 and min(draws) < 0


def test_gaussians_of_one_feature_have_a_closed_form():
    # 3 (E x - E y)^2 + 3 (E x^2 - E y^2)^2 + (E x^3 - E y^3)^2 for N(0, 1) and N(1, 1).
    draws = [kernel_distance(RNG.normal(size=(300, 1)), RNG.normal(size=(300, 1)) + 1) for _ in range(300)]
    assert np.mean(draws) == pytest.approx(3 + 3 + 16, abs=4 * np.std(draws) / np.sqrt(len(draws)))
