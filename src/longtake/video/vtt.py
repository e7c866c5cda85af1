"""Which prompt was meant when, as subtitles (WebVTT) that players show over the video."""

from collections.abc import Iterable
from fractions import Fraction

from longtake.video.encoding import exact_rate, without_controls


def webvtt(timeline: Iterable[tuple[int, int, str]], fps: float) -> str:
    """Return the text of a .vtt file for prompts that each hold from a frame to before another.

    `timeline`: (start frame, stop frame, prompt). Raises InputError for a rate that a video cannot have.
    """
    rate = exact_rate(fps)
    cues = [
        f"{_time(Fraction(start * 1000) / rate)} --> {_time(Fraction(stop * 1000) / rate)}\n{_escaped(text)}\n"
        for start, stop, text in timeline
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _time(milliseconds: Fraction) -> str:
    seconds, rest = divmod(round(milliseconds), 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:03d}"


def _escaped(text: str) -> str:
    # A line break would end the cue, "-->" would begin another.
    text = " ".join(without_controls(text).split())
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
