"""H.264 in fragmented MP4: every segment is one fragment of a fresh encoder, so its bytes depend on nothing before."""

import re
from functools import cached_property
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation

from longtake.video.encoding import Encoding, short_comment
from longtake.video.sound import Sound, set_up
from longtake.video.writer import AppendFile, Container, enlarged

# empty_moov: the header needs no frames. frag_discont: time stamps are absolute, not counted from the first fragment.
_MOVFLAGS = "empty_moov+default_base_moof+frag_keyframe+frag_discont+skip_trailer"
# Two by two pixels share one colour: their mean, which is exact for frames that were enlarged by an even number.
_CONVERSION = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP


class _Bytes:
    """Collects what a muxer writes. It cannot seek, which keeps the muxer from going back to change anything."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> int:
        """Take the next bytes of the file."""
        self.data += data
        return len(data)


class Mp4(Container):
    """MP4 with one track of H.264, 8-bit 4:2:0, BT.709, without B-frames: decoding and display order are the same.

    Beside it, where there is sound, one of AAC: every fragment has the packets that begin in its time.
    """

    def __init__(self, video: Encoding) -> None:
        self._video = video
        self._sound = Sound(Path(video.audio)) if video.audio is not None else None

    def header(self, num_frames: int) -> bytes:
        """Return ftyp and moov; the length in milliseconds stands in mehd, where 0 means that players look for it."""
        milliseconds = round(num_frames * 1000 / self._video.rate)
        return _with_length(self._muxer_header, milliseconds)

    def length_field(self) -> slice:
        """Return the place of mehd's duration."""
        start = self._muxer_header.index(b"mvex") + 16
        return slice(start, start + 8)

    def segment(self, first_frame: int, frames: np.ndarray) -> bytes:
        """Return one moof and mdat. Raises InputError where the sound cannot be decoded."""
        sink, rate = _Bytes(), self._video.rate
        heard = self._sound.between(first_frame / rate, (first_frame + len(frames)) / rate) if self._sound else []
        with self._open(sink, first_frame // self._video.segment + 1) as container:
            stream, beside = self._add_streams(container)
            container.start_encoding()
            header_bytes = len(sink.data)
            for picture in enlarged(self._video, first_frame, frames):
                _mux(
                    container,
                    stream,
                    picture.reformat(
                        format="yuv420p",
                        dst_colorspace=Colorspace.ITU709,
                        dst_color_range=ColorRange.MPEG,
                        interpolation=_CONVERSION,
                        threads=1,
                    ),
                )
            _mux(container, stream, None)
            for packet in heard:
                packet.stream = beside
                container.mux(packet)
        assert sink.data[:header_bytes] == self._muxer_header
        return bytes(sink.data[header_bytes:])

    def encoder(self) -> str:
        """Read x264's version from the note that it leaves in its first frame."""
        found = re.search(rb"x264 - core (\d+(?: r\d+)?)", self.segment(0, self._black))
        return f"x264 {found[1].decode()}" if found else "x264"

    @cached_property
    def _muxer_header(self) -> bytes:
        sink = _Bytes()
        container = self._open(sink, 1)
        self._add_streams(container)
        container.start_encoding()
        header = bytes(sink.data)
        container.close()
        return header

    @property
    def _black(self) -> np.ndarray:
        return np.zeros((1, self._video.height, self._video.width, 3), np.uint8)

    def _open(self, sink: _Bytes, fragment: int) -> OutputContainer:
        container = av.open(
            sink,
            "w",
            format="mp4",
            options={
                "movflags": _MOVFLAGS,
                "fragment_index": str(fragment),
                "avoid_negative_ts": "disabled",
                "fflags": "+bitexact",
            },
        )
        container.metadata["comment"] = short_comment(self._video.comment)
        return container

    def _add_streams(self, container: OutputContainer) -> tuple[av.VideoStream, av.AudioStream | None]:
        stream = self._add_video(container)
        if self._sound is None:
            return stream, None
        beside = container.add_stream("aac")
        assert isinstance(beside, av.AudioStream)
        set_up(beside.codec_context)
        return stream, beside

    def _add_video(self, container: OutputContainer) -> av.VideoStream:
        video = self._video
        # More than one thread changes the bytes; scene cuts and B-frames would break "one fragment, frames in order".
        # The tree of macroblocks reads memory that nothing has written, so that bytes now and then differ (seen with
        # x264 165 and AVX-512, in pictures of few macroblocks).
        stream = container.add_stream(
            "libx264",
            rate=video.rate,
            options={
                "crf": str(video.crf),
                "g": str(video.segment),
                "bf": "0",
                "threads": "1",
                "x264-params": "scenecut=0:mbtree=0",
            },
        )
        stream.height, stream.width = video.stored_size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / video.rate
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        return stream


def open_mp4(path: Path, video: Encoding) -> AppendFile:
    """Return what writes such a file."""
    return AppendFile(path, Mp4(video))


def _mux(container: OutputContainer, stream: av.VideoStream, picture: av.VideoFrame | None) -> None:
    for packet in stream.encode(picture):
        # The muxer cannot see how long the last frame of a fragment lasts.
        packet.duration = 1
        container.mux(packet)


def _with_length(header: bytes, milliseconds: int) -> bytes:
    """Insert a movie extends header (ISO/IEC 14496-12, 8.8.2) at the head of moov/mvex."""
    mehd = (20).to_bytes(4, "big") + b"mehd" + bytes([1, 0, 0, 0]) + milliseconds.to_bytes(8, "big")
    moov, mvex = header.index(b"moov") - 4, header.index(b"mvex") - 4
    grown = bytearray(header)
    for box in (moov, mvex):
        size = int.from_bytes(grown[box : box + 4], "big") + len(mehd)
        grown[box : box + 4] = size.to_bytes(4, "big")
    return bytes(grown[: mvex + 8] + mehd + grown[mvex + 8 :])
