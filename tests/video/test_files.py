"""What players and readers find in a finished file."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from longtake.errors import InputError, OutputError
from longtake.sampler import Chunk
from longtake.video.formats.mkv import Mkv
from longtake.video.formats.mp4 import Mp4
from longtake.video.output import Output, make_target
from longtake.video.read import read_frames
from longtake.video.record import read_record
from longtake.video.sink import Sink

from .conftest import NAMES

RATES = [8.0, 24.0, 24000 / 1001, 23.976, 30000 / 1001, 60.0, 0.5]


def opened(path: Path) -> tuple[Any, Any, list[Any]]:
    container = av.open(str(path))
    return container, container.streams.video[0], list(container.decode(video=0))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("fps", RATES)
def test_length_rate_and_frame_times_are_exact(new_run: Callable[..., Any], name: str, fps: float) -> None:
    run = new_run(name, fps=fps)
    run.finish()
    container, stream, frames = opened(run.path)
    rate = Fraction(fps).limit_denominator(1001)
    assert stream.average_rate == rate
    assert abs(container.duration / 1e6 - 44 / rate) < 1e-3
    assert len(frames) == 44 and stream.start_time == 0
    # One nanosecond is the grain of Matroska's clock.
    times = [frame.pts * frame.time_base for frame in frames]
    assert all(abs(time - index / rate) <= index * 5e-10 * (name == "a.mkv") for index, time in enumerate(times))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_metadata_hold_what_was_asked_and_nothing_else(new_run: Callable[..., Any], name: str) -> None:
    run = new_run(name, comment="a red car & \u00fc")
    run.finish()
    metadata = {key.lower(): value for key, value in opened(run.path)[0].metadata.items()}
    brands = {"major_brand", "minor_version", "compatible_brands"}
    assert metadata.pop("comment") == "a red car & \u00fc"
    assert {key: value for key, value in metadata.items() if key not in brands} in (
        {},
        {"encoder": "longtake", "fps": "8"},
    )


def test_mp4_is_made_for_every_player(new_run: Callable[..., Any]) -> None:
    run = new_run()
    run.finish()
    container, stream, frames = opened(run.path)
    context = stream.codec_context
    assert (context.name, context.pix_fmt, context.profile) == ("h264", "yuv420p", "High")
    assert (context.colorspace, context.color_range, context.color_primaries, context.color_trc) == (1, 1, 1, 1)
    packets = [packet for packet in av.open(str(run.path)).demux(video=0) if packet.dts is not None]
    assert all(packet.pts == packet.dts and packet.duration == packets[0].duration for packet in packets)
    assert [index for index, packet in enumerate(packets) if packet.is_keyframe] == [0, 8, 16, 24, 32, 40]
    data = run.path.read_bytes()
    assert b"elst" not in data
    duration = data.index(b"mehd") + 8
    assert int.from_bytes(data[duration : duration + 8], "big") == 5500


@pytest.mark.parametrize("name", ["a.mkv", "frames"])
@pytest.mark.parametrize("scale", [1, 3])
def test_lossless_files_give_back_every_pixel(new_run: Callable[..., Any], name: str, scale: int) -> None:
    run = new_run(name, scale=scale)
    run.finish()
    frames = np.concatenate(list(read_frames(run.path)))
    np.testing.assert_array_equal(frames, run.truth().repeat(scale, axis=1).repeat(scale, axis=2))
    np.testing.assert_array_equal(np.concatenate(list(read_frames(run.path, scale=scale))), run.truth())


@pytest.mark.parametrize("scale", [1, 4])
def test_mp4_gives_back_the_colours(tmp_path: Path, scale: int) -> None:
    patches = np.random.default_rng(0).integers(20, 236, (1, 4, 4, 3), dtype=np.uint8)
    frames = patches.repeat(24, axis=0).repeat(16, axis=1).repeat(16, axis=2)
    output = Output(path=tmp_path / "a.mp4", scale=scale, segment=8)
    target = make_target(output, settings={}, fps=8.0, total=24, size=(64, 64), comment="")
    with Sink(target) as sink:
        sink.append(Chunk(start=0, frames=frames, state=dict))
        sink.finish()
    # Away from the borders of the patches, where two colours share a chroma sample or a block.
    inner = np.arange(64) % 16 % 15 > 3
    error = (np.concatenate(list(read_frames(tmp_path / "a.mp4", scale=scale))).astype(int) - frames)[:, inner][
        :, :, inner
    ]
    assert np.abs(error).mean() < 1.5
    assert np.abs(error.mean(axis=(0, 1, 2))).max() < 0.7


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("segment", [1, 3])
def test_a_file_plays_as_soon_as_its_first_segment_is_full(
    new_run: Callable[..., Any], name: str, segment: int
) -> None:
    run = new_run(name, segment=segment, lengths=(1,))
    with run.open() as sink:
        for chunk in run.chunks(sink):
            sink.append(chunk)
            if sink.next_frame == segment:
                assert sum(map(len, read_frames(run.path))) == segment
        sink.finish()
    assert sum(map(len, read_frames(run.path))) == 44


@pytest.mark.parametrize("name", NAMES)
def test_any_range_can_be_read(new_run: Callable[..., Any], name: str) -> None:
    run = new_run(name, fps=24000 / 1001)
    run.finish()
    batches = list(read_frames(run.path))
    assert [len(batch) for batch in batches] == [16, 16, 12]
    frames = np.concatenate(batches)
    for start, stop in [(0, 1), (1, 2), (7, 9), (8, 16), (30, None), (43, 44), (40, 99)]:
        part = np.concatenate(list(read_frames(run.path, start, stop)))
        np.testing.assert_array_equal(part, frames[start:stop])
    assert list(read_frames(run.path, 44)) == list(read_frames(run.path, 5, 5)) == []


def test_what_cannot_be_read_is_refused(tmp_path: Path, new_run: Callable[..., Any]) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    for path, message in [("no.mp4", "does not exist"), ("text.mp4", "cannot read"), ("", "there is no 000000.png")]:
        with pytest.raises(InputError, match=message):
            list(read_frames(tmp_path / path))
    run = new_run(scale=1)
    run.finish()
    with pytest.raises(InputError, match="scale 5 does not divide"):
        list(read_frames(run.path, scale=5))


def test_mp4_is_encoded_by_nothing_that_makes_bytes_differ(new_run: Callable[..., Any]) -> None:
    run = new_run()
    note = Mp4(run.target().video).segment(0, run.truth(8))
    # x264 leaves its settings in the first frame of a segment. Some bytes in a thousand segments differ with mbtree.
    for setting in (b"mbtree=0", b"threads=1", b"scenecut=0", b"bframes=0", b"keyint=8"):
        assert setting in note, setting


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("text", ["a red car | " * 3000, "\u00fc" * 40_000, "\U0001f697" * 20_000], ids=len)
def test_prompts_of_any_length_leave_a_file_that_plays(new_run: Callable[..., Any], name: str, text: str) -> None:
    run = new_run(name, comment=text)
    run.finish()
    container, _, frames = opened(run.path)
    comment = {key.lower(): value for key, value in container.metadata.items()}["comment"]
    assert len(frames) == 44 and comment.endswith("(whole in the .json beside this file)")
    assert comment.startswith(text[:200]) and 990 < len(comment.encode()) <= 1000


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_control_characters_do_not_reach_the_metadata(new_run: Callable[..., Any], name: str) -> None:
    run = new_run(name, comment="a\x1b[31m\x00b\u202ec \udc80")
    run.finish()
    metadata = {key.lower(): value for key, value in opened(run.path)[0].metadata.items()}
    assert metadata["comment"].rstrip() == "a [31m b c"


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_no_run_is_finished_before_its_frames_were_counted(
    new_run: Callable[..., Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = new_run(name)
    whole.finish()
    run = whole.elsewhere("other")
    container = Mp4 if name == "a.mp4" else Mkv
    right = container.segment

    def lost(self: Any, first_frame: int, frames: np.ndarray) -> bytes:
        return b"" if first_frame == 16 else right(self, first_frame, frames)

    with monkeypatch.context() as patch:
        patch.setattr(container, "segment", lost)
        with pytest.raises(OutputError, match=r"^[^\n]*36 of its 44 frames can be read back[^\n]*$"):
            run.finish()
    record = read_record(run.path)
    assert record is not None and not record.finished
