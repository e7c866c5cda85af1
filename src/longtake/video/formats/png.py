"""A folder of numbered PNG files: lossless, and every frame can be looked at while the run goes on."""

import io
import os
import zlib
from itertools import count
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from longtake.errors import OutputError
from longtake.reading import read_file
from longtake.video import durable
from longtake.video.encoding import Encoding
from longtake.video.files import FRAME_FILE, frame_file, state_folder
from longtake.video.record import unlike
from longtake.video.writer import Mark, Writer

_COMPRESSION = 6


class PngFolder(Writer):
    """Writes 000000.png, 000001.png ... Each file appears complete or not at all.

    Its mark: `frames`, and the `crc32` of their files, one after the other.
    """

    def __init__(self, path: Path, video: Encoding) -> None:
        self._path = path
        self._video = video

    def start(self) -> Mark:
        """Create the folder, or remove the frames in it."""
        self._path.mkdir(exist_ok=True)
        start = {"frames": 0, "crc32": 0}
        self.cut(start)
        durable.sync_folder(self._path.absolute().parent)
        return start

    def verify(self, mark: Mark, num_frames: int, *, complete: bool) -> None:
        """Compare the files of all frames up to the mark, and look for further ones when complete."""
        checksum = 0
        for frame in range(mark["frames"]):
            file = frame_file(self._path, frame)
            if file.is_dir():
                raise unlike(self._path, f"has a folder in place of frame {frame}", f"move {file} away, and then ")
            if not file.exists():
                raise unlike(self._path, f"lacks frame {frame}")
            try:
                checksum = zlib.crc32(read_file(file), checksum)
            except OSError as error:
                raise unlike(self._path, f"has a frame {frame} that cannot be read ({error.strerror})") from None
        if checksum != mark.get("crc32"):
            raise unlike(self._path, f"was changed since its run wrote it ({self._suspect(mark['frames'])})")
        if complete and frame_file(self._path, num_frames).exists():
            raise unlike(self._path, f"holds more than {num_frames} frames")

    def cut(self, mark: Mark) -> None:
        """Remove the files of later frames; none where that cannot be all of them."""
        frames = [file for file in self._path.iterdir() if FRAME_FILE.fullmatch(file.name)]
        later = [file for file in frames if int(file.stem) >= mark["frames"]]
        for file in later:
            if file.is_dir() and not file.is_symlink():
                raise OutputError(f"{file} is a folder, and a frame goes there; move it away, and begin again")
        for file in later:
            file.unlink()

    def append(self, mark: Mark, first_frame: int, frames: np.ndarray) -> Mark:
        """Write one file per frame."""
        scale, checksum = self._video.scale, mark["crc32"]
        for index, frame in enumerate(frames):
            packed = io.BytesIO()
            large = frame.repeat(scale, axis=0).repeat(scale, axis=1)
            Image.fromarray(large).save(packed, "PNG", compress_level=_COMPRESSION)
            durable.reach("segment-encoded")
            # Beside the folder, so that a kill leaves nothing in it but frames.
            temporary = state_folder(self._path) / "frame.png.new"
            durable.write_durable(temporary, packed.getvalue())
            os.replace(temporary, frame_file(self._path, first_frame + index))
            durable.reach("bytes-written")
            checksum = zlib.crc32(packed.getvalue(), checksum)
        return {"frames": first_frame + len(frames), "crc32": checksum}

    def is_in_place(self) -> bool:
        """Look for the folder."""
        return self._path.is_dir()

    def close_at(self, num_frames: int) -> None:
        """Do nothing: a folder has no length field."""

    def count(self) -> int:
        """Return how many frames follow one another from the first."""
        return next(frame for frame in count() if not frame_file(self._path, frame).exists())

    def sync(self) -> None:
        """Make the names of the files durable; their content already is."""
        durable.sync_folder(self._path)

    def encoder(self) -> str:
        """Name and version of the PNG encoder."""
        return f"pillow {PIL.__version__}"

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _suspect(self, num_frames: int) -> str:
        """Name the first file that is damaged: PNG files have checksums of their own."""
        for frame in range(num_frames):
            try:
                with Image.open(frame_file(self._path, frame)) as picture:
                    picture.verify()
            except (OSError, SyntaxError, ValueError):
                return f"{frame_file(self._path, frame).name} is damaged"
        return "every file is whole, but not all are its own"
