"""What a longer video takes more, on the toy."""

import sys
from pathlib import Path

import pytest

from lab.measure.length import SMALLEST, Settings, growth, live_bytes, runs
from lab.measure.tiny import tiny_wan
from longtake.models import load_model

if sys.platform != "linux":
    pytest.skip("asks glibc and /proc", allow_module_level=True)


def test_live_bytes_are_those_that_are_held() -> None:
    before = live_bytes()
    held = bytearray(10_000_000)
    assert live_bytes() - before == pytest.approx(len(held), rel=0.05)
    del held
    assert live_bytes() - before < 1_000_000


def test_names_that_the_interpreter_remembers_are_not_counted() -> None:
    name = " ".join(["nothing", "has", "this"])
    held = sys.getrefcount(name)
    getattr(object(), name, None)
    assert sys.getrefcount(name) > held
    live_bytes()
    assert sys.getrefcount(name) == held


def test_a_sampler_that_holds_all_frames_grows_by_them(tmp_path: Path) -> None:
    chosen = Settings(frames=(64, 256))
    found = growth(load_model("toy"), SMALLEST["video-infinity"], chosen, tmp_path)
    # Latents of 3 x 8 x 8 numbers, noisy and clean.
    assert found["live_bytes_a_frame"] > 3 * 8 * 8 * 4
    for reading in found["lengths"]:
        assert reading["peak_resident_bytes"] > 50_000_000 and reading["beside_bytes_a_minute"] > 0


def test_a_sampler_that_does_not_fit_is_left_out(tmp_path: Path) -> None:
    model = load_model(str(tiny_wan(tmp_path)))
    assert [name for name in SMALLEST if runs(model, SMALLEST[name], Settings())] == [
        "fifo",
        "chunked",
        "video-infinity",
    ]
