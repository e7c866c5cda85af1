import numpy as np
import pytest

from longtake.metrics.psnr import HIGHEST, psnr


def test_an_even_error_has_a_closed_form():
    clip = np.full((4, 8, 8, 3), 100, np.uint8)
    assert psnr(clip, clip + 51) == pytest.approx(-20 * np.log10(51 / 255))
    # Below as well as above: bytes must not wrap around.
    assert psnr(clip + 51, clip) == pytest.approx(-20 * np.log10(51 / 255))


def test_an_identical_clip_has_the_highest_value():
    clip = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    assert psnr(clip, clip) == HIGHEST
