"""Reads prompt timelines in the spellings that people use, and refuses with its position what it cannot read.

{"0": "a red car", "128": "a boat"}                          from which frame on
[{"start_time": 0, "end_time": 8, "text": "a red car"}]      seconds; also startTime, endTime, prompts: [{text, weight}]
a red car | a boat | a train                                 spans of equal length
[0s-8s: a red car] [8s-16s: a boat]                          seconds; numbers without the s are frames
"""

import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from longtake.errors import InputError, unknown_name
from longtake.request import PromptTimeline

_BLANK = re.compile(r"\s*")
_SPAN = re.compile(r"\[\s*(\d+(?:\.\d+)?)(s?)\s*-\s*(?:(\d+(?:\.\d+)?)(s?))?\s*:([^\[\]]*)\]")
_FRAME = re.compile(r"\d{1,12}")
_START, _STOP = ("start_time", "startTime"), ("end_time", "endTime")
_KEYS = (*_START, *_STOP, "text", "prompts")
_HELP = "give {frame: text} or [{start_time, end_time, text}] as JSON, 'a | b | c', or '[0s-8s: text] [8s-16s: text]'"


@dataclass(frozen=True)
class _Source:
    text: str
    name: str

    def error(self, position: int, problem: str) -> InputError:
        line = self.text.count("\n", 0, position) + 1
        column = position - self.text.rfind("\n", 0, position)
        return InputError(f"{self.name}, line {line}, column {column}: {problem}")


@dataclass(frozen=True)
class _Span:
    position: int
    start: int
    stop: int | None
    text: str


def parse_prompts(source: str, frames: int | None, fps: float) -> PromptTimeline:
    """Read a prompt timeline from a file, or from the text itself, for a video of `frames` (None: endless) at `fps`.

    Seconds are rounded to the nearest frame. Raises InputError, with line and column, for what cannot be read, for gaps
    and overlaps, and for blends of several prompts.
    """
    given = _read(source)
    start = _blank(given.text, 0)
    match given.text[start : start + 1]:
        case "":
            raise given.error(start, f"there is no prompt; {_HELP}")
        case "{":
            spans = _from_frames(given)
        case "[" if given.text[_blank(given.text, start + 1) :][:1] in ("{", "]"):
            spans = _from_list(given, fps)
        case "[":
            spans = _from_brackets(given, start, fps)
        case _ if "|" in given.text:
            spans = _from_equal_parts(given, frames)
        case _:
            raise given.error(start, f"this is neither a file nor a timeline; {_HELP}")
    return _timeline(given, spans, frames)


def _read(source: str) -> _Source:
    if os.path.isdir(source):
        raise InputError(f"--prompts {source} is a folder; give a file or the text itself")
    if not os.path.isfile(source):
        return _Source(source, "--prompts")
    try:
        return _Source(Path(source).read_text(encoding="utf-8-sig"), source)
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {source}: it is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror}") from None


def _blank(text: str, position: int) -> int:
    """Return the next position that is not blank."""
    found = _BLANK.match(text, position)
    assert found
    return found.end()


def _from_frames(source: _Source) -> list[_Span]:
    """Read {"0": text, "128": text}."""
    spans: dict[int, _Span] = {}
    for position, key, value in _items(source):
        if not _FRAME.fullmatch(key):
            raise source.error(position, f"{key!r} is not the number of a frame")
        if int(key) in spans:
            raise source.error(position, f"frame {int(key)} has a prompt already")
        spans[int(key)] = _Span(position, int(key), None, _text(source, position, value))
    return [spans[start] for start in sorted(spans)]


def _from_list(source: _Source, fps: float) -> list[_Span]:
    """Read [{"start_time": 0, "end_time": 8, "text": ...}]; an end that is left out is the next start."""
    return [_listed(source, position, value, fps) for position, _, value in _items(source)]


def _listed(source: _Source, position: int, entry: Any, fps: float) -> _Span:
    if not isinstance(entry, dict):
        raise source.error(position, "this is no object with start_time, end_time and text")
    for key in entry:
        if key not in _KEYS:
            raise source.error(position, str(unknown_name("field", key, _KEYS)))
    start = _seconds(source, position, entry, _START)
    stop = _seconds(source, position, entry, _STOP)
    if start is None:
        raise source.error(position, "start_time is missing")
    text = _single_text(source, position, entry)
    return _Span(position, _frame(start, fps), None if stop is None else _frame(stop, fps), text)


def _seconds(source: _Source, position: int, entry: dict[str, Any], names: Sequence[str]) -> Fraction | None:
    given = [name for name in names if name in entry]
    if len(given) > 1:
        raise source.error(position, f"{given[0]} and {given[1]} mean the same; give one of them")
    value = entry[given[0]] if given else None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise source.error(position, f"{given[0]} is {json.dumps(value)}; it must be a number of seconds, 0 or more")
    return Fraction(str(value))


def _single_text(source: _Source, position: int, entry: dict[str, Any]) -> str:
    if ("text" in entry) == ("prompts" in entry):
        raise source.error(position, "give either text or prompts")
    if "text" in entry:
        return _text(source, position, entry["text"])
    prompts = entry["prompts"]
    if not isinstance(prompts, list) or not all(isinstance(prompt, dict) for prompt in prompts):
        raise source.error(position, "prompts must be a list of objects with text and weight")
    if len(prompts) != 1:
        raise source.error(
            position,
            f"{len(prompts)} prompts at once cannot be blended by any model here; give one prompt for every span",
        )
    for key in prompts[0]:
        if key not in ("text", "weight"):
            raise source.error(position, str(unknown_name("field", key, ("text", "weight"))))
    weight = prompts[0].get("weight", 1)
    # The weight of a single prompt is relative to nothing, so any weight means the same.
    if isinstance(weight, bool) or not isinstance(weight, int | float) or weight <= 0:
        raise source.error(position, f"weight is {json.dumps(weight)}; it must be a number above 0")
    return _text(source, position, prompts[0].get("text"))


def _text(source: _Source, position: int, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise source.error(position, "the prompt is empty" if isinstance(value, str) else "the prompt is not a text")
    return value.strip()


def _from_brackets(source: _Source, position: int, fps: float) -> list[_Span]:
    """Read [0s-8s: text] [8s-: text]."""
    spans = []
    while position < len(source.text):
        found = _SPAN.match(source.text, position)
        if not found:
            raise source.error(position, "expected [start-stop: text], such as [0s-8s: a red car]")
        start, start_unit, stop, stop_unit, text = found.groups()
        spans.append(
            _Span(
                position,
                _time(source, position, start, start_unit, fps),
                None if stop is None else _time(source, position, stop, stop_unit, fps),
                _text(source, found.start(5), text),
            )
        )
        position = _blank(source.text, found.end())
    return spans


def _time(source: _Source, position: int, number: str, unit: str, fps: float) -> int:
    if unit:
        return _frame(Fraction(number), fps)
    if not number.isdigit():
        raise source.error(position, f"{number} is no frame; for seconds write {number}s")
    return int(number)


def _frame(seconds: Fraction, fps: float) -> int:
    return math.floor(seconds * Fraction(fps) + Fraction(1, 2))


def _from_equal_parts(source: _Source, frames: int | None) -> list[_Span]:
    """Read a | b | c."""
    parts = source.text.split("|")
    if frames is None:
        raise source.error(
            source.text.index("|"),
            "'a | b' divides the length of the video, but an endless one has none; give frames or seconds",
        )
    if len(parts) > frames:
        raise InputError(f"{len(parts)} prompts do not fit into {frames} frames; ask for more frames")
    position, spans = 0, []
    for index, part in enumerate(parts):
        spans.append(_Span(position, index * frames // len(parts), None, _text(source, position, part)))
        position += len(part) + 1
    return spans


def _items(source: _Source) -> Iterator[tuple[int, str, Any]]:
    """Yield position, key (empty in a list) and value of everything at the top level of a JSON object or list."""
    text, decoder = source.text, json.JSONDecoder(parse_constant=_no_number)
    try:
        decoder.decode(text)
    except json.JSONDecodeError as error:
        raise source.error(error.pos, f"this is no JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise source.error(0, f"this JSON cannot be used: {error}") from None
    position = _blank(text, 0)
    closing = {"{": "}", "[": "]"}[text[position]]
    position = _blank(text, position + 1)
    while text[position] != closing:
        begin, key = position, ""
        if closing == "}":
            key, position = decoder.raw_decode(text, position)
            position = _blank(text, _blank(text, position) + 1)
        value, position = decoder.raw_decode(text, position)
        yield begin, key, value
        position = _blank(text, position)
        if text[position] == ",":
            position = _blank(text, position + 1)


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _timeline(source: _Source, spans: list[_Span], frames: int | None) -> PromptTimeline:
    """Join spans; InputError where they leave a gap or overlap."""
    if not spans:
        raise source.error(0, f"there is no prompt; {_HELP}")
    if spans[0].start != 0:
        raise source.error(spans[0].position, f"nothing is said about frames 0 to {spans[0].start}; begin at 0")
    for span, following in zip(spans, [*spans[1:], None], strict=True):
        if span.stop is not None and span.stop <= span.start:
            raise source.error(span.position, f"this prompt ends (frame {span.stop}) before it begins ({span.start})")
        if following is None:
            _check_end(source, span, frames)
        elif following.start <= span.start or (span.stop is not None and span.stop > following.start):
            raise source.error(
                following.position, f"frame {following.start} has the prompt {_short(span.text)} already"
            )
        elif span.stop is not None and span.stop < following.start:
            raise source.error(following.position, f"nothing is said about frames {span.stop} to {following.start}")
    return PromptTimeline(tuple(span.start for span in spans), tuple(span.text for span in spans))


def _check_end(source: _Source, last: _Span, frames: int | None) -> None:
    if last.stop is None or (frames is not None and last.stop >= frames):
        return
    length = "the video is endless" if frames is None else f"the video has {frames}"
    raise source.error(
        last.position,
        f"nothing is said about the frames from {last.stop} on, and {length}; "
        f"leave the last end out, or ask for {last.stop} frames",
    )


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
