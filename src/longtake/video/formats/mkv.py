"""FFV1 in Matroska: lossless RGB. The file is written element by element, each segment one cluster."""

import struct
from functools import cached_property
from pathlib import Path

import av
import numpy as np

from longtake.video.encoding import Encoding, short_comment
from longtake.video.writer import AppendFile, Container, enlarged

_UNKNOWN_SIZE = bytes([0x01]) + bytes([0xFF]) * 7


class Mkv(Container):
    """Matroska with one track of FFV1 version 3, 8-bit RGB; every frame is a key frame and carries a checksum.

    One tick of the file's clock is one frame, so that frame times are exact for every rate.
    """

    def __init__(self, video: Encoding) -> None:
        self._video = video
        self._tick = round(1_000_000_000 / video.rate)

    def header(self, num_frames: int) -> bytes:
        """Return everything before the first cluster; the duration is left out (a void of its size) for 0 frames."""
        duration = _element("4489", struct.pack(">d", num_frames)) if num_frames else _element("EC", bytes(9))
        info = _element(
            "1549A966",
            duration + _number("2AD7B1", self._tick) + _element("4D80", b"longtake") + _element("5741", b"longtake"),
        )
        return self._opening + info + self._tracks + self._tags

    def length_field(self) -> slice:
        """Return the place of the duration element, which follows the 5 bytes that open Info."""
        start = len(self._opening) + 5
        return slice(start, start + 11)

    def segment(self, first_frame: int, frames: np.ndarray) -> bytes:
        """Return one cluster."""
        coder = self._open()
        packets = [
            packet
            for picture in enlarged(self._video, first_frame, frames)
            for packet in coder.encode(picture.reformat(format="bgr0", threads=1))
        ]
        packets += coder.encode(None)
        blocks = [
            _element("A3", struct.pack(">BhB", 0x81, index, 0x80) + bytes(packet))
            for index, packet in enumerate(packets)
        ]
        return _element("1F43B675", _number("E7", first_frame) + b"".join(blocks))

    def encoder(self) -> str:
        """Return the library's version: FFV1 has no other."""
        return "ffv1 " + ".".join(map(str, av.library_versions["libavcodec"]))

    def _open(self) -> av.VideoCodecContext:
        coder = av.CodecContext.create("ffv1", "w")
        assert isinstance(coder, av.VideoCodecContext)
        coder.height, coder.width = self._video.stored_size
        coder.pix_fmt, coder.time_base = "bgr0", 1 / self._video.rate
        coder.thread_count, coder.gop_size = 1, 1
        coder.options = {"level": "3", "slices": "4", "slicecrc": "1"}
        coder.open()
        return coder

    @property
    def _opening(self) -> bytes:
        ebml = _element(
            "1A45DFA3",
            _number("4286", 1)
            + _number("42F7", 1)
            + _number("42F2", 4)
            + _number("42F3", 8)
            + _element("4282", b"matroska")
            + _number("4287", 4)
            + _number("4285", 2),
        )
        # The segment has no size, as in a live stream: it ends where the file ends.
        return ebml + bytes.fromhex("18538067") + _UNKNOWN_SIZE

    @cached_property
    def _tracks(self) -> bytes:
        height, width = self._video.stored_size
        extradata = self._open().extradata
        assert extradata is not None
        entry = (
            _number("D7", 1)
            + _number("73C5", 1)
            + _number("83", 1)
            + _number("9C", 0)
            + _number("23E383", self._tick)
            + _element("22B59C", b"und")
            + _element("86", b"V_FFV1")
            + _element("63A2", extradata)
            + _element("E0", _number("B0", width) + _number("BA", height))
        )
        return _element("1654AE6B", _element("AE", entry))

    @property
    def _tags(self) -> bytes:
        tags = {"COMMENT": short_comment(self._video.comment), "FPS": str(self._video.rate)}
        simple = [
            _element("67C8", _element("45A3", name.encode()) + _element("4487", text.encode()))
            for name, text in tags.items()
        ]
        return _element("1254C367", _element("7373", _element("63C0", b"") + b"".join(simple)))


def open_mkv(path: Path, video: Encoding) -> AppendFile:
    """Return what writes such a file."""
    return AppendFile(path, Mkv(video))


def _element(identifier: str, payload: bytes) -> bytes:
    """Return an EBML element (RFC 8794): identifier, size of the payload, payload."""
    length = 1
    while len(payload) >= (1 << (7 * length)) - 1:
        length += 1
    size = (len(payload) | 1 << (7 * length)).to_bytes(length, "big")
    return bytes.fromhex(identifier) + size + payload


def _number(identifier: str, value: int) -> bytes:
    return _element(identifier, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))
