import numpy as np
import pytest

from longtake.metrics.inception_score import inception_score


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
