"""Images that somebody wants to see at certain moments: a folder of them, in natural order (1, 2, 10)."""

from pathlib import Path

import numpy as np

from longtake.errors import InputError
from longtake.model import VideoSpec
from longtake.video.files import PICTURE_ENDINGS, picture_files
from longtake.video.pictures import picture_size, read_picture


def storyboard_files(folder: str, spec: VideoSpec) -> list[Path]:
    """Return the images of a folder, in natural order.

    Raises InputError for fewer than two, and for those that do not have the size of the model's frames.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise InputError(f"{folder} is no folder; give one with the keyframes as images, named in their order")
    files = picture_files(path)
    if len(files) < 2:
        raise InputError(f"{folder} holds {len(files)} images ({' '.join(sorted(PICTURE_ENDINGS))}); give at least 2")
    for file in files:
        size = picture_size(file)
        if size != (spec.width, spec.height):
            raise InputError(
                f"{file} has {size[0]}x{size[1]} pixels; the frames of {spec.name} have {spec.width}x{spec.height}"
            )
    return files


def storyboard_frames(folder: str | None, spec: VideoSpec, frames: int | None) -> tuple[int, ...]:
    """Return which frames of a video the images of a folder are: the first one, the last one, and evenly between; none
    without a folder.

    Raises InputError as `storyboard_files`; where the video has no end or fewer frames than there are images; and where
    a frame has no latent of its own.
    """
    if folder is None:
        return ()
    last = len(storyboard_files(folder, spec)) - 1
    if len(spec.latent_shape) != 4 or spec.temporal_stride != 1:
        raise InputError(f"keyframes need a latent for every frame, which {spec.name} does not have; leave them out")
    if frames is None:
        raise InputError("keyframes are spread over the whole video, and an endless one has no end; set frames")
    if frames <= last:
        raise InputError(f"{last + 1} keyframes are more than {frames} frames; ask for more, or give fewer images")
    return tuple((2 * index * (frames - 1) + last) // (2 * last) for index in range(last + 1))


def storyboard(files: list[Path]) -> np.ndarray:
    """Return images as uint8 (frames, height, width, 3)."""
    return np.stack([read_picture(file) for file in files])
