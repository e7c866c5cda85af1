import numpy as np
import pytest

from longtake.metrics.scores import (
    HIGHEST,
    Gaussian,
    frechet_distance,
    gaussian,
    inception_score,
    kernel_distance,
    psnr,
    shrunk,
    shrunk_distance,
    ssim,
)

from .goldens import GOLDENS

RNG = np.random.default_rng(0)


def test_independent_features_have_a_closed_form():
    a, b = np.array([1.0, 4.0, 0.0]), np.array([9.0, 4.0, 0.25])
    left = Gaussian(mean=np.array([0.0, 1.0, 2.0]), covariance=np.diag(a))
    right = Gaussian(mean=np.array([3.0, 1.0, 2.0]), covariance=np.diag(b))
    assert frechet_distance(left, right) == pytest.approx(9 + 4 + 0.25)


def test_two_dependent_features_have_a_closed_form():
    a, b = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[5.0, -2.0], [-2.0, 1.0]])
    # The root of a 2x2 matrix has the trace sqrt(trace + 2 sqrt(determinant)).
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))
    found = frechet_distance(*(Gaussian(mean=np.zeros(2), covariance=c) for c in (a, b)))
    assert found == pytest.approx(np.trace(a) + np.trace(b) - 2 * root)


def test_mean_and_covariance_are_those_of_numpy():
    rows = RNG.normal(size=(30, 4)).astype(np.float32) + 1000
    found = gaussian(rows)
    np.testing.assert_allclose(found.mean, rows.astype(float).mean(0))
    np.testing.assert_allclose(found.covariance, np.cov(rows.astype(float), rowvar=False), rtol=1e-9)


@pytest.mark.parametrize("num_clips", [5, 60])
def test_a_set_is_no_distance_from_itself_even_where_the_covariance_is_singular(num_clips: int):
    rows = RNG.normal(size=(num_clips, 40)) * np.logspace(-6, 3, 40)
    own = gaussian(rows)
    assert frechet_distance(own, own) == pytest.approx(0, abs=1e-5 * np.trace(own.covariance))


def test_it_does_not_matter_which_set_comes_first():
    left, right = gaussian(RNG.normal(size=(9, 20))), gaussian(RNG.normal(size=(50, 20)) * 2 + 1)
    assert frechet_distance(left, right) == pytest.approx(frechet_distance(right, left), rel=1e-6)


def test_fewer_clips_give_a_larger_distance_for_equal_distributions():
    def drawn(num_clips: int) -> float:
        return frechet_distance(*(gaussian(RNG.normal(size=(num_clips, 30))) for _ in range(2)))

    assert drawn(40) > 3 * drawn(2000)


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda golden: str(golden[0]))
def test_the_authors_number(golden):
    _, arrays = golden
    found = frechet_distance(gaussian(arrays["fvd_a"]), gaussian(arrays["fvd_b"]))
    assert found == pytest.approx(float(arrays["fvd"]), rel=1e-5)


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


def test_certain_and_different_clips_score_the_number_of_classes():
    assert inception_score(np.tile(np.eye(5), (4, 1))) == pytest.approx((5, 0))


@pytest.mark.parametrize(
    "probabilities", [np.full((8, 5), 0.2), np.tile(np.eye(5)[:1], (8, 1))], ids=["nothing recognised", "all alike"]
)
def test_uncertain_or_equal_clips_score_one(probabilities: np.ndarray):
    assert inception_score(probabilities) == pytest.approx((1, 0))


def test_a_case_between_has_a_closed_form():
    certain, unsure = np.array([1.0, 0.0]), np.array([0.5, 0.5])
    marginal = np.array([0.75, 0.25])
    divergence = (np.log(1 / 0.75) + (unsure * np.log(unsure / marginal)).sum()) / 2
    assert inception_score(np.stack([certain, unsure]))[0] == pytest.approx(np.exp(divergence))


def test_parts_are_scored_apart():
    # Dealt in turn, the first part has both classes and the second one only.
    rows = np.eye(2)[[0, 0, 1, 0, 0, 0, 1, 0]]
    assert inception_score(rows, num_parts=2) == pytest.approx((1.5, 0.5))


def test_probabilities_near_zero_are_no_trouble():
    rows = np.array([[1 - 1e-30, 1e-30], [1e-320, 1.0]], dtype=np.float64)
    assert inception_score(rows)[0] == pytest.approx(2)


def test_an_even_error_has_a_closed_form():
    clip = np.full((4, 8, 8, 3), 100, np.uint8)
    assert psnr(clip, clip + 51) == pytest.approx(-20 * np.log10(51 / 255))
    # Below as well as above: bytes must not wrap around.
    assert psnr(clip + 51, clip) == pytest.approx(-20 * np.log10(51 / 255))


def test_an_identical_clip_has_the_highest_value():
    clip = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    assert psnr(clip, clip) == HIGHEST


def test_ssim_of_a_pixel_is_that_of_its_window():
    x, y = RNG.integers(0, 256, (2, 1, 11, 11, 3), dtype=np.uint8)
    where = np.exp(-(np.arange(-5, 6)[:, None] ** 2 + np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights = (where / where.sum()).ravel()
    values = []
    for colour in range(3):
        pair = np.stack([side[0, :, :, colour].ravel() / 255 for side in (x, y)])
        (mean_x, mean_y), covariance = pair @ weights, np.cov(pair, aweights=weights, ddof=0)
        numerator = (2 * mean_x * mean_y + 1e-4) * (2 * covariance[0, 1] + 9e-4)
        values.append(numerator / ((mean_x**2 + mean_y**2 + 1e-4) * (np.trace(covariance) + 9e-4)))
    assert ssim(x, y) == pytest.approx(np.mean(values), rel=1e-9)


def test_ssim_is_one_for_identical_clips_and_falls_with_noise():
    clip = RNG.integers(0, 256, (2, 16, 20, 3), dtype=np.uint8)
    noisy = [(clip + RNG.normal(0, sigma, clip.shape)).clip(0, 255).astype(np.uint8) for sigma in (20, 80)]
    assert 1 == pytest.approx(ssim(clip, clip)) and 1 > ssim(clip, noisy[0]) > ssim(clip, noisy[1]) > 0


def test_shrinking_brings_few_clips_of_equal_sets_together_and_leaves_many_alone():
    spread = np.linspace(0.1, 3, 40)
    few, others, many = (RNG.normal(size=(count, 40)) * spread for count in (12, 12, 4000))
    plain = frechet_distance(gaussian(few), gaussian(others))
    shrunken = shrunk_distance(few, others)
    assert shrunken is not None and shrunken < 0.7 * plain
    assert shrunk_distance(many, many) is None
    np.testing.assert_allclose(shrunk(many).covariance, gaussian(many).covariance, atol=0.1)
    assert np.trace(shrunk(few).covariance) == pytest.approx(np.trace(gaussian(few).covariance))
