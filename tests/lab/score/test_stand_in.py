import numpy as np
import pytest

from lab.score.stand_in import CHANGES, Settings, noisy, score


def test_noise_is_as_strong_as_it_says():
    grey = np.full((4, 64, 64, 3), 128, np.uint8)
    assert noisy(grey, 0).std() == pytest.approx(8, abs=0.2)


def test_a_row_for_each_change():
    rows = score(Settings(clips=2)).splitlines()
    assert rows[0].startswith("| 2 clips") and len(rows) == 2 + len(CHANGES)
