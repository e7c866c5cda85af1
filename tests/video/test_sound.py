"""The sound that somebody gives a video."""

import os
import signal
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from longtake.errors import InputError, OutputError
from longtake.video.output import Output, make_target
from longtake.video.read import read_frames
from longtake.video.record import read_record
from longtake.video.sound import RATE, SAMPLES, sound_digest

FRAMES, FPS = 44, 8


def tone(file: Path, seconds: float, pitch: float = 440) -> str:
    """Write a sine of one channel."""
    rate = 22_050
    swing = np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)
    with wave.open(str(file), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes((swing * 20_000).astype("<i2").tobytes())
    return str(file)


def heard(file: Path) -> np.ndarray:
    """Return the samples of both channels."""
    with av.open(str(file)) as video:
        return np.concatenate([frame.to_ndarray() for frame in video.decode(audio=0)], axis=1)


def pitch(samples: np.ndarray) -> float:
    """Return the loudest frequency."""
    return float(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax() * RATE / len(samples))


def test_a_short_sound_ends_in_silence_and_changes_no_frame(new_run: Callable[..., Any], tmp_path: Path) -> None:
    run = new_run(audio=tone(tmp_path / "a.wav", 3))
    with run.open() as sink:
        assert sink.warnings[0].endswith("a.wav lasts 3.0 s, and the video 5.5 s: the rest of the video is silent")
    run.finish()
    samples, second = heard(run.path), RATE
    assert abs(samples.shape[1] - FRAMES * RATE // FPS) < SAMPLES
    for part in (samples[:, second // 10 : second], samples[:, 2 * second : 29 * second // 10]):
        assert abs(part).max() > 0.3 and abs(pitch(part[0]) - 440) < 3
    # No click where segments meet, of which there is one a second.
    jumps = abs(np.diff(samples[0, second // 10 : 29 * second // 10]))
    assert jumps.max() < 1.2 * 0.44 * 2 * np.pi * 440 / RATE
    assert abs(samples[:, 31 * second // 10 :]).max() < 1e-3
    silent = run.elsewhere("silent").but(audio=None)
    silent.finish()
    same = zip(read_frames(run.path), read_frames(silent.path), strict=True)
    assert all((with_sound == without).all() for with_sound, without in same)


def test_a_long_sound_is_cut_to_the_length_of_the_video(new_run: Callable[..., Any], tmp_path: Path) -> None:
    run = new_run(audio=tone(tmp_path / "a.wav", 8))
    with run.open() as sink:
        assert sink.warnings[0].endswith("a.wav lasts 8.0 s, and the video 5.5 s: the rest of it is cut off")
    run.finish()
    samples = heard(run.path)
    assert 0 <= samples.shape[1] - FRAMES * RATE // FPS < SAMPLES
    assert abs(samples[:, -RATE // 4 :]).max() > 0.3


def test_a_kill_loses_no_sound(new_run: Callable[..., Any], tmp_path: Path) -> None:
    whole = new_run(audio=tone(tmp_path / "a.wav", 4))
    whole.finish()
    run = whole.elsewhere("killed")
    assert run.killed_at("bytes-written", 3) == signal.SIGKILL
    record = read_record(run.path)
    assert record is not None and record.stored == 16
    # What there is plays with its sound, and stays as it is.
    assert heard(run.path).shape[1] >= record.stored * RATE // FPS
    before = run.path.read_bytes()
    first = before.index(b"moof")
    run.finish()
    assert run.output() == whole.output()
    assert run.path.read_bytes()[first : record.mark["bytes"]] == before[first : record.mark["bytes"]]


def test_another_sound_is_another_video(new_run: Callable[..., Any], tmp_path: Path) -> None:
    run = new_run(audio=tone(tmp_path / "a.wav", 1))
    run.finish()
    before = run.path.read_bytes()
    tone(tmp_path / "a.wav", 1, 880)
    with pytest.raises(OutputError, match="begun with other settings: the sound of --audio is another; "):
        run.open()
    (tmp_path / "a.wav").unlink()
    with pytest.raises(InputError, match="cannot read the sound .*a.wav: No such file"):
        run.open()
    assert run.path.read_bytes() == before


def test_what_has_no_sound_is_refused(new_run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("la la la")
    new_run("mute.mp4").finish()
    refused = {
        "a.txt": "cannot read the sound of .*a.txt: Invalid data",
        "mute.mp4": "there is no sound in .*mute.mp4; give --audio a file that has some",
        ".": "cannot read the sound .*Is a directory",
    }
    for name, reason in refused.items():
        with pytest.raises(InputError, match=reason):
            new_run(audio=str(tmp_path / name)).target()


@pytest.mark.parametrize("name", ["a.mkv", "frames"])
def test_a_format_without_sound_refuses_it(new_run: Callable[..., Any], tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"--audio has no place in .*{name}.*; leave it out, or write .mp4"):
        new_run(name, audio=tone(tmp_path / "a.wav", 1)).target()


def test_a_part_of_a_video_has_no_sound(tmp_path: Path) -> None:
    output = Output(path=tmp_path / "a.mp4", part=(8, 16), audio=tone(tmp_path / "a.wav", 1))
    with pytest.raises(InputError, match="--audio belongs to the whole of a video; leave it out, or --range"):
        make_target(output, settings={}, fps=8, total=8, size=(16, 16), comment="")


def test_a_sound_whose_rate_and_channels_change_is_taken_whole(new_run: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "a.aac"
    file.write_bytes(coded(tmp_path / "1.aac", 44_100, "stereo") + coded(tmp_path / "2.aac", 22_050, "mono"))
    run = new_run(audio=str(file))
    run.finish()
    loud = [abs(part).max() > 0.1 for part in np.array_split(heard(run.path), 55, axis=1)]
    # Some 0.93 s of the one, 1.86 s of the other, and then silence.
    assert all(loud[:27]) and not any(loud[29:])


def coded(file: Path, rate: int, layout: str) -> bytes:
    """Return 40 packets of noise, as a radio would send them."""
    with av.open(str(file), "w", format="adts") as container:
        stream = container.add_stream("aac", rate=rate, layout=layout)
        for number in range(40):
            noise = np.random.default_rng(number).normal(0, 0.1, (1 if layout == "mono" else 2, 1024))
            frame = av.AudioFrame.from_ndarray(noise.astype(np.float32), format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, number * 1024, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.read_bytes()


def test_a_pipe_is_refused_before_it_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is a pipe or a device, not a file"):
        sound_digest(str(tmp_path / "pipe"))
