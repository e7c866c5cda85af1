"""Is a video new, or learnt by heart? python -m lab score nearest-frame VIDEO TRAINING_FOLDER

The PSNR in dB of each frame of a video to the training frame that is nearest to it: mean, least and
greatest over the video, and how many different training frames are nearest to some frame. Beside it stands the same for
the training frames themselves, each to the nearest of those at least a second away: what is close among real frames.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from tyro.conf import Positional, arg

from longtake.data.footage import Footage
from longtake.data.footage_files import video_folder
from longtake.video.read import open_video, read_frames

Rows = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is compared with what."""

    video: Annotated[Positional[Path], arg(metavar="VIDEO")]
    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]  # the training videos


def nearest(frames: Rows, others: Rows, apart: int = 0) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the PSNR of each frame to the nearest of others, (frames,), and which one that is.

    Frames are rows of pixels, 0 to 255. With `apart`, both are the same video, and frames less than that many away do
    not count.
    """
    squares, found = [], []
    for place, frame in enumerate(frames):
        errors = np.square(others - frame).mean(axis=1)
        if apart:
            errors[max(0, place - apart + 1) : place + apart] = np.inf
        squares.append(errors.min())
        found.append(errors.argmin())
    return 10 * np.log10(255**2 / np.maximum(squares, 1e-6, dtype=np.float64)), np.array(found)


def all_frames(footage: Footage) -> Rows:
    """Return every frame of footage as a row."""
    clips = [footage.clip(number, 0, one.num_frames) for number, one in enumerate(footage.recordings)]
    return rows(np.concatenate(clips))


def rows(frames: NDArray[np.uint8]) -> Rows:
    """Return frames as rows of pixels."""
    return frames.reshape(len(frames), -1).astype(np.float32)


def score(chosen: Settings) -> dict[str, object]:
    """Return the report."""
    made = np.concatenate(list(read_frames(chosen.video)))
    footage = video_folder(chosen.folder, size=made.shape[1], min_frames=1, open_video=open_video)
    training = all_frames(footage)
    to_training, which = nearest(rows(made), training)
    among, _ = nearest(training, training, apart=round(footage.recordings[0].fps or 12))
    return {
        "frames": len(made),
        "nearest training frame, dB": _summary(to_training),
        "different nearest frames": len(set(which.tolist())),
        "training frames, to the nearest a second away, dB": _summary(among),
    }


def _summary(values: NDArray[np.float64]) -> dict[str, float]:
    found = {"mean": values.mean(), "least": values.min(), "greatest": values.max()}
    return {name: round(float(value), 2) for name, value in found.items()}
