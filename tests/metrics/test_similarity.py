import numpy as np
import pytest

from longtake.metrics.consistency import MOST_POINTS, Curve
from longtake.metrics.similarity import delays, similarity

ALONG, ACROSS = np.eye(2, dtype=np.float32)


def turning(num_frames: int, degrees: float) -> np.ndarray:
    """Rows of features that turn by so much a frame."""
    angles = np.radians(degrees) * np.arange(num_frames)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_a_turn_of_the_features_gives_its_cosines_at_every_lag_and_against_the_start():
    figures = similarity([turning(300, 0.2)])
    assert figures.lags == pytest.approx({lag: np.cos(np.radians(0.2 * lag)) for lag in (1, 4, 16, 64, 256)}, abs=1e-6)
    # The mean of the first 8 frames points to the middle between the fourth and the fifth.
    from_start = np.cos(np.radians(0.2 * (np.arange(300) - 3.5)))
    assert figures.start == pytest.approx(from_start.mean(), abs=1e-3)
    assert figures.curves["similarity to the start"][0] == pytest.approx(from_start[:4].mean(), abs=1e-5)
    assert figures.end == pytest.approx(from_start[-32:].mean(), abs=0.01)


def test_figures_do_not_depend_on_the_batches_nor_on_the_length_of_the_rows():
    rows = turning(100, 1)
    lengths = np.linspace(1, 5, 100, dtype=np.float32)[:, None]
    figures = similarity(rows[place : place + 7] * lengths[place : place + 7] for place in range(0, 100, 7))
    assert figures.lags == pytest.approx(similarity([rows]).lags, abs=1e-6)


def test_pairs_across_a_change_of_the_story_count_nowhere():
    rows = np.stack([ALONG] * 20 + [ACROSS] * 20)
    figures = similarity([rows], cuts=[20])
    assert set(figures.lags) == {1, 4, 16} and all(value == 1 for value in figures.lags.values())
    assert figures.start == figures.end == 1
    assert figures.curves["similarity to the start"][-1] == 0
    assert similarity([rows]).lags[16] == pytest.approx(8 / 24)


@pytest.mark.parametrize("delay", [0, 3, 11])
def test_the_delay_of_a_switch_is_when_the_frames_turn(delay: int):
    rows = np.stack([ALONG] * (40 + delay) + [ACROSS] * (40 - delay) + [ALONG] * 40)
    assert delays([rows[:50], rows[50:]], [40, 80, 500]) == {40: delay, 80: 0}


def test_a_video_that_does_not_follow_has_no_delay():
    assert delays([np.stack([ALONG] * 80)], [40]) == {40: None}
    noisy = np.random.default_rng(0).normal(size=(80, 64)).astype(np.float32)
    assert delays([noisy], [40]) == {40: None}


@pytest.mark.parametrize("length", [1, 5, MOST_POINTS, 1000])
def test_a_curve_is_the_mean_over_equal_parts(length: int):
    curve = Curve()
    for value in range(length):
        curve.add(float(value))
    size = 1
    while -(-length // size) > MOST_POINTS:
        size *= 2
    expected = [np.mean(np.arange(start, min(start + size, length))) for start in range(0, length, size)]
    assert curve.values == pytest.approx(expected)
