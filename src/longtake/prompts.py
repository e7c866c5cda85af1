"""Reads prompt timelines in the spellings that people use, and refuses with its position what it cannot read.

{"0": "a red car", "128": "a boat"}                          from which frame on
[{"start_time": 0, "end_time": 8, "text": "a red car"}]      seconds; also startTime, endTime, prompts: [{text, weight}]
a red car | a boat | a train                                 spans of equal length; so does ["a red car", "a boat"]
[0s-8s: a red car] [8s-16s: a boat]                          seconds; numbers without the s are frames, 0:08 is a clock
[0s: a red car] [8s: a boat]                                 up to the next; text before the first holds from frame 0
00:00.000 --> 00:08.000                                      subtitles, .vtt or .srt
a red car
"""

import html
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from longtake.errors import InputError, unknown_name
from longtake.reading import read_file, refuse_missing_file
from longtake.request import PromptTimeline

_BLANK = re.compile(r"\s*")
_TIME = r"(?:\d+:)?\d+:\d\d(?:[.,]\d+)?|\d+(?:\.\d+)?s?"
_SPAN = re.compile(rf"\[\s*({_TIME})\s*(?:-\s*({_TIME})?\s*)?:([^\[\]]*)\]")
_CUE = re.compile(rf"^[ \t]*({_TIME})[ \t]*-->[ \t]*({_TIME})[^\n]*\n((?:[^\n]*\S[^\n]*(?:\n|\Z))*)", re.MULTILINE)
_LINES = re.compile(r"\S\s*\n\s*(\S)")
_FRAME = re.compile(r"\d{1,12}")
_START, _STOP = ("start_time", "startTime"), ("end_time", "endTime")
_KEYS = (*_START, *_STOP, "text", "prompts")
_HELP = (
    "give {frame: text} or [{start_time, end_time, text}] as JSON, 'a | b | c', '[0s: text] [8s: text]', or subtitles"
)


@dataclass(frozen=True)
class _Source:
    text: str
    name: str
    line: int = 1
    """The line of `name` with which the text begins."""

    def error(self, position: int, problem: str) -> InputError:
        line = self.text.count("\n", 0, position) + self.line
        column = position - self.text.rfind("\n", 0, position)
        return InputError(f"{self.name}, line {line}, column {column}: {problem}")


@dataclass(frozen=True)
class _Span:
    position: int
    start: int
    stop: int | None
    text: str


def parse_prompts(source: str, frames: int | None, fps: float, option: str = "--prompts") -> PromptTimeline:
    """Read a prompt timeline from a file, or from the text itself, for a video of `frames` (None: endless) at `fps`.

    Seconds are rounded to the nearest frame. Raises InputError, with line and column, for what cannot be read, for gaps
    and overlaps, and for blends of several prompts; `option` is where it was given.
    """
    return _parsed(_read(source, option), frames, fps)


def read_prompts(text: str, frames: int | None, fps: float, name: str = "prompts", line: int = 1) -> PromptTimeline:
    """Read what is text and never a file to read, a stranger's or a line of a file: several prompts, as `parse_prompts`
    does, or one. `name` and `line` are where it stands."""
    return _parsed(_Source(text, name, line), frames, fps) if _looks(text) else PromptTimeline.constant(text)


def _parsed(given: _Source, frames: int | None, fps: float) -> PromptTimeline:
    start = _blank(given.text, 0)
    match given.text[start : start + 1]:
        case "":
            raise given.error(start, f"there is no prompt; {_HELP}")
        case "{":
            spans = _from_object(given, frames, fps)
        case "[" if given.text[_blank(given.text, start + 1) :][:1] in ("{", "]", '"'):
            spans = _from_list(given, _items(given), frames, fps)
        case _ if "-->" in given.text:
            spans = _from_subtitles(given, fps)
        case "[":
            spans = _from_brackets(given, start, fps)
        case _ if stamp := _SPAN.search(given.text):
            before = _Span(start, 0, None, _of_one_line(given, start, given.text[start : stamp.start()]))
            spans = [before, *_from_brackets(given, stamp.start(), fps)]
        case _ if "|" in given.text:
            spans = _from_equal_parts(given, frames)
        case _:
            raise _not_a_timeline(given, start)
    return _timeline(given, spans, frames)


def source_text(source: str, option: str) -> str:
    """Return the text of a timeline that is a file or the text itself. Raises InputError for a file that is no text."""
    return _read(source, option).text


def refuse_timeline(prompt: str) -> None:
    """Raise InputError for a single prompt that looks like several, or like a file that holds some."""
    if looks := "is a file here" if os.path.exists(prompt) and not os.path.isdir(prompt) else _looks(prompt):
        one = json.dumps({"0": prompt}, ensure_ascii=False)
        raise InputError(
            f"the prompt {prompt!r} {looks}; give it as --prompts, or say that it is one text: --prompts '{one}'"
        )


def _looks(text: str) -> str | None:
    """Return how a text looks that is several prompts; None for a single one."""
    if re.search(r"\S\s*\|\s*\S", text):
        return "looks like several, with | between them"
    return "looks like a timeline" if re.search(r"^\s*(\[\s*[\d{\"]|\{\s*\")|\d\s*-->", text) else None


def parse_several(text: str, frames: int | None, fps: float) -> PromptTimeline | None:
    """Return the prompts of a text that looks like several, or is a file that holds some; None for a single one. Raises
    as `parse_prompts`."""
    try:
        refuse_timeline(text)
    except InputError:
        return parse_prompts(text, frames, fps)
    return None


def _not_a_timeline(source: _Source, start: int) -> InputError:
    text = _of_one_line(source, start, source.text[start:])
    if source.name.startswith("--"):
        refuse_missing_file(text)
    return source.error(start, f"this is neither a file nor a timeline; {_HELP}")


def _read(source: str, option: str) -> _Source:
    if os.path.isdir(source):
        raise InputError(f"{option} {source} is a folder; give a file or the text itself")
    if not os.path.exists(source):
        return _Source(source.removeprefix("\ufeff"), option)
    try:
        # Lines end as the writer's system ends them.
        return _Source(read_file(source).decode("utf-8-sig").replace("\r\n", "\n"), source)
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {source}: it is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror}") from None


def _blank(text: str, position: int) -> int:
    """Return the next position that is not blank."""
    found = _BLANK.match(text, position)
    assert found
    return found.end()


def _from_object(source: _Source, frames: int | None, fps: float) -> list[_Span]:
    """Read {"0": text, "128": text}, or what scope exports, which has such a list under "prompts"."""
    spans: dict[int, _Span] = {}
    for position, key, value in _items(source):
        if key == "prompts" and isinstance(value, list):
            return _from_list(source, [(position, "", entry) for entry in value], frames, fps, foreign=True)
    for position, key, value in _items(source):
        if not _FRAME.fullmatch(key):
            raise source.error(position, f"{key!r} is not the number of a frame")
        if int(key) in spans:
            raise source.error(position, f"frame {int(key)} has a prompt already")
        spans[int(key)] = _Span(position, int(key), None, _text(source, position, value))
    return [spans[start] for start in sorted(spans)]


def _from_list(
    source: _Source, items: Iterable[tuple[int, str, Any]], frames: int | None, fps: float, *, foreign: bool = False
) -> list[_Span]:
    """Read [{"start_time": 0, "end_time": 8, "text": ...}]; an end that is left out is the next start.

    Texts alone share the video equally. `foreign`: of another program, which says more of each than is read here.
    """
    entries = list(items)
    if entries and all(isinstance(value, str) for _, _, value in entries):
        return _equal(source, [(position, value) for position, _, value in entries], frames)
    return [_listed(source, position, value, fps, foreign) for position, _, value in entries]


def _listed(source: _Source, position: int, entry: Any, fps: float, foreign: bool) -> _Span:
    if not isinstance(entry, dict):
        raise source.error(position, "this is no object with start_time, end_time and text")
    for key in () if foreign else entry:
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


def _of_one_line(source: _Source, position: int, text: str) -> str:
    """Return a text around which there are no brackets. Raises InputError for lines: one prompt, or one each?"""
    if second := _LINES.search(text):
        raise source.error(
            position + second.start(1),
            "lines do not say where each begins; write '|' between the prompts of one video, or [0s: ...] [8s: ...] "
            "around them; 'longtake batch' makes a video of each line",
        )
    return text.strip()


def _from_brackets(source: _Source, position: int, fps: float) -> list[_Span]:
    """Read [0s-8s: text] [8s-: text]."""
    spans = []
    while position < len(source.text):
        found = _SPAN.match(source.text, position)
        if not found:
            raise source.error(position, "expected [start: text] or [start-stop: text], such as [8s: a red car]")
        start, stop, text = found.groups()
        spans.append(
            _Span(
                position,
                _time(source, position, start, fps),
                None if stop is None else _time(source, position, stop, fps),
                _text(source, found.start(3), text),
            )
        )
        position = _blank(source.text, found.end())
    return spans


def _from_subtitles(source: _Source, fps: float) -> list[_Span]:
    """Read the cues of WebVTT and SubRip, which are seconds."""
    cues = list(_CUE.finditer(source.text))
    if len(cues) != source.text.count("-->"):
        known = {source.text.count("\n", 0, cue.start(2)) for cue in cues}
        arrows = [found.start() for found in re.finditer("-->", source.text)]
        lost = next(arrow for arrow in arrows if source.text.count("\n", 0, arrow) not in known)
        raise source.error(lost, "expected a time before and after, such as 00:00:08.000 --> 00:00:16.000")
    return [
        _Span(
            cue.start(1),
            _time(source, cue.start(1), cue[1], fps),
            _time(source, cue.start(2), cue[2], fps),
            _text(source, cue.start(3), html.unescape(" ".join(cue[3].split()))),
        )
        for cue in cues
    ]


def _time(source: _Source, position: int, time: str, fps: float) -> int:
    """Return the frame of 8s, of 1:08 or 1:01:08.5 on a clock, or of a plain number, which counts frames."""
    if ":" in time:
        *minutes, seconds = time.replace(",", ".").split(":")
        whole = sum(int(part) * 60**power for power, part in enumerate(reversed(minutes), 1))
        return _frame(whole + Fraction(seconds), fps)
    if time.endswith("s"):
        return _frame(Fraction(time[:-1]), fps)
    if not time.isdigit():
        raise source.error(position, f"{time} is no frame; for seconds write {time}s")
    return int(time)


def _frame(seconds: Fraction, fps: float) -> int:
    return math.floor(seconds * Fraction(fps) + Fraction(1, 2))


def _from_equal_parts(source: _Source, frames: int | None) -> list[_Span]:
    """Read a | b | c."""
    position, parts = 0, []
    for part in source.text.split("|"):
        parts.append((position, _of_one_line(source, position, part)))
        position += len(part) + 1
    return _equal(source, parts, frames)


def _equal(source: _Source, parts: Sequence[tuple[int, str]], frames: int | None) -> list[_Span]:
    """Return spans of equal length for texts with their positions."""
    if frames is None:
        raise source.error(
            parts[0][0], "'a | b' divides the length of the video, but an endless one has none; give frames or seconds"
        )
    if len(parts) > frames:
        raise source.error(parts[0][0], f"{len(parts)} prompts do not fit into {frames} frames; ask for more frames")
    return [
        _Span(position, index * frames // len(parts), None, _text(source, position, part))
        for index, (position, part) in enumerate(parts)
    ]


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
