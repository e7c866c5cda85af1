"""The contract of a file format that grows segment by segment."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import av
import numpy as np

from longtake.video.format import VideoFormat


class Container(ABC):
    """Turns frames into bytes: one header, then segments that only depend on their own frames and place."""

    @abstractmethod
    def header(self, num_frames: int) -> bytes:
        """Return the start of the file; it has the same length for every `num_frames`, 0 = not known yet."""

    @abstractmethod
    def length_field(self) -> slice:
        """Return where in the header the number of frames stands."""

    @abstractmethod
    def segment(self, first_frame: int, frames: np.ndarray) -> bytes:
        """Encode uint8 frames (frames, height, width, 3), the first of which is `first_frame` of the video."""

    @abstractmethod
    def encoder(self) -> str:
        """Name and version of the encoder."""


def enlarged(video: VideoFormat, first_frame: int, frames: np.ndarray) -> Iterator[av.VideoFrame]:
    """Yield RGB frames for an encoder, each pixel enlarged to a square, with their number as time stamp."""
    for index, frame in enumerate(frames):
        large = frame.repeat(video.scale, axis=0).repeat(video.scale, axis=1)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(large), format="rgb24")
        picture.pts = first_frame + index
        picture.time_base = 1 / video.rate
        yield picture
