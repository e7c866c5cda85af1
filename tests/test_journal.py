"""Prompts as subtitles."""

from longtake.journal import webvtt


def test_prompts_become_cues() -> None:
    text = webvtt([(0, 128, "a red car"), (128, 28800 * 8, "tea --> <b>\nmilk & sugar")], 8)
    assert text == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:16.000\na red car\n\n"
        "00:00:16.000 --> 08:00:00.000\ntea --&gt; &lt;b&gt; milk &amp; sugar\n"
    )


def test_times_are_rounded_to_the_nearest_millisecond() -> None:
    assert "00:00:00.042 --> 00:00:01.001" in webvtt([(1, 24, "x")], 24000 / 1001)
