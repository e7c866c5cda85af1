import numpy as np
import pytest

from longtake.metrics.frechet import Gaussian, frechet_distance, gaussian

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
