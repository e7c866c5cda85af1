"""Peak signal-to-noise ratio: how exactly a clip was reproduced."""

import numpy as np
from numpy.typing import NDArray

HIGHEST = 100.0
"""What identical clips are counted as, so that a mean exists."""


def psnr(clip: NDArray[np.uint8], again: NDArray[np.uint8]) -> float:
    """Return -10 log10 of the mean squared error of one clip, pixels in 0 to 1, in dB; 100 for identical clips.

    Arrays of the same shape. The mean runs over the whole clip, as in PVDM's validation (arXiv 2302.07685).
    """
    assert clip.shape == again.shape, (clip.shape, again.shape)
    error = np.square((clip.astype(np.float32) - again) / 255).mean(dtype=np.float64)
    return HIGHEST if error == 0 else min(float(-10 * np.log10(error)), HIGHEST)
