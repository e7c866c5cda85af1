"""Spoilt versions of a clip that any honest score must mark down."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Frames = NDArray[np.uint8]


def frozen(clip: Frames, seed: int) -> Frames:
    """One frame of the clip, repeated; frames (n, height, width, 3)."""
    index = int(np.random.default_rng(seed).integers(len(clip)))
    return np.repeat(clip[index : index + 1], len(clip), axis=0)


def looped(clip: Frames, seed: int) -> Frames:
    """Two to four neighbouring frames, repeated (A B C A B C ...) or played to and fro (A B C B A B ...)."""
    rng = np.random.default_rng(seed)
    length = int(rng.integers(2, 5))
    start = int(rng.integers(len(clip) - length + 1))
    order = list(range(start, start + length))
    if rng.integers(2) and length > 2:
        order += order[-2:0:-1]
    return clip[np.resize(order, len(clip))]


def shuffled(clip: Frames, seed: int) -> Frames:
    """All frames in random order; redrawn while more than a third of the steps would still go one frame forwards."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(clip))
    while (np.abs(np.diff(order)) == 1).mean() > 1 / 3:
        order = rng.permutation(len(clip))
    return clip[order]


def blurred(clip: Frames, seed: int) -> Frames:
    """Every frame blurred beyond recognition, with a standard deviation of 5 to 8 pixels at 64 pixels width."""
    sigma = np.random.default_rng(seed).uniform(5, 8) * clip.shape[2] / 64
    return blur(clip, sigma)


def blur(clip: Frames, sigma: float) -> Frames:
    """Every frame blurred with this standard deviation in pixels."""
    return np.stack([np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(sigma))) for frame in clip])


CONTROLS: dict[str, Callable[[Frames, int], Frames]] = {
    "frozen": frozen,
    "looped": looped,
    "shuffled": shuffled,
    "blurred": blurred,
}
"""Name -> function of (clip, seed)."""
