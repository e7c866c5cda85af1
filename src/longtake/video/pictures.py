"""Single pictures: turned as their EXIF says, and brought from 16 bits to 8."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from longtake.errors import InputError
from longtake.reading import check_file

_ANIMATED = ("PNG", "WEBP", "GIF")
_TURNED = range(5, 9)
_ORIENTATION = 0x0112


def read_picture(file: Path) -> NDArray[np.uint8]:
    """Return a picture as uint8 (height, width, 3). Raises InputError, which names the file, where it is none."""
    try:
        check_file(file)
        with Image.open(file) as picture:
            return _rgb(ImageOps.exif_transpose(picture))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read {file} as a picture: {_why(error, file)}; leave it out") from None


def picture_size(file: Path) -> tuple[int, int]:
    """Return width and height of a picture as it is shown, from its header. Raises InputError as `read_picture`."""
    try:
        check_file(file)
        with Image.open(file) as picture:
            width, height = picture.size
            return (height, width) if picture.getexif().get(_ORIENTATION) in _TURNED else (width, height)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{file} cannot be read as an image: {_why(error, file)}; leave it out") from None


def is_animated(file: Path) -> bool:
    """Whether a file that is called a picture is a video: an animated PNG, WebP or GIF. One that cannot be read is
    none."""
    try:
        check_file(file)
        with Image.open(file) as picture:
            # Cameras put a second view or a preview behind a JPEG.
            return picture.format in _ANIMATED and getattr(picture, "is_animated", False)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False


def _why(error: Exception, file: Path) -> str:
    told = error.strerror if isinstance(error, OSError) else None
    return told or str(error).removesuffix(f" {str(file)!r}")


def _rgb(picture: Image.Image) -> NDArray[np.uint8]:
    if picture.mode.startswith("I"):
        # Grey of 16 bits, which PIL's own conversion cuts off at 255.
        grey = np.rint(np.asarray(picture, dtype=np.float64) / 257).clip(0, 255).astype(np.uint8)
        return np.stack([grey] * 3, axis=-1)
    return np.asarray(picture.convert("RGB"))
