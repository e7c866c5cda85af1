"""Frames of any size brought to one square."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate


def centre_square(frames: NDArray[np.uint8], size: int, antialias: bool = False) -> NDArray[np.uint8]:
    """Cut the middle square out of each frame, and resize it to size x size: bilinear between pixel centres, rounded.

    Frames are (frames, height, width, 3). Without `antialias` nothing is blurred before: PVDM's data, and most
    published numbers, are made that way (arXiv 2302.07685).
    """
    height, width = frames.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = frames[:, top : top + side, left : left + side].copy()
    if side == size:
        return square
    planes = torch.from_numpy(square).permute(0, 3, 1, 2).float()
    resized = interpolate(planes, size=(size, size), mode="bilinear", align_corners=False, antialias=antialias)
    return resized.round().clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8).numpy()
