"""Prompt timelines: every spelling that is read, and what is refused with its position."""

import json
from pathlib import Path

import pytest

from longtake.errors import InputError
from longtake.journal import webvtt
from longtake.prompts import parse_prompts, read_prompts, refuse_timeline
from longtake.request import PromptTimeline

THREE = ((0, 64, 128), ("a red car", "a boat", "a train"))


def parsed(source: str, frames: int | None = 192, fps: float = 8.0) -> tuple[tuple[int, ...], tuple[str, ...]]:
    timeline = parse_prompts(source, frames, fps)
    return timeline.starts, timeline.texts


@pytest.mark.parametrize(
    "source",
    [
        '{"0": "a red car", "64": "a boat", "128": "a train"}',
        '{"128": "a train", "0": "a red car", "64": "a boat"}',
        "a red car | a boat|a train",
        "a red car |\n\na boat\n| a train\n",
        "[0s-8s: a red car] [8s-16s: a boat]\n[16s-24s: a train]",
        "[0-64: a red car][64-128: a boat][128-: a train]",
        '[{"start_time": 0, "end_time": 8, "text": "a red car"}, {"start_time": 8, "end_time": 16, "text": "a boat"},'
        ' {"start_time": 16, "end_time": 24.0, "text": "a train"}]',
        '[{"startTime": 0, "text": "a red car"}, {"startTime": 8, "text": "a boat"},'
        ' {"startTime": 16, "prompts": [{"text": "a train", "weight": 100}]}]',
        '["a red\\ncar", "a boat", "a train"]',
        "[0s: a red\r\n  car] [8s: a boat] [16s: a train]",
        "[0: a red car] [64: a boat] [128: a train]",
        "a red car\n[8s: a boat]\n[16s: a train]\n",
        "[0:00-0:08: a red car] [0:08: a boat] [00:00:16.0-0:24: a train]",
        "\ufeffa red car | a boat | a train",
        "WEBVTT\n\nNOTE Not complete.\n\n00:00:00.000 --> 00:00:08.000\na red car\n\n"
        "00:08.000 --> 00:16.000 align:start\na boat\n\n00:16.000 --> 00:24.000\na\ntrain",
        "1\n00:00:00,000 --> 00:00:08,000\na red car\n\n2\n00:00:08,000 --> 00:00:16,000\na boat\n\n"
        "3\n00:00:16,000 --> 00:00:24,000\na train\n",
        '{"version": "2.0", "prompts": [{"startTime": 0, "endTime": 8, "prompts": [{"text": "a red car", "weight": 1}],'
        ' "color": 3}, {"startTime": 8, "text": "a boat"}, {"startTime": 16, "text": "a train"}], "settings": {}}',
    ],
)
def test_every_spelling_means_the_same(source: str, tmp_path: Path) -> None:
    assert parsed(source) == THREE
    file = tmp_path / "story.txt"
    file.write_text(source, encoding="utf-8")
    assert parsed(str(file)) == THREE


def test_seconds_are_rounded_to_the_nearest_frame() -> None:
    assert parsed("[0s-0.1s: a] [0.1s-: b]", fps=24.0)[0] == (0, 2)
    assert parsed('[{"start_time": 0, "text": "a"}, {"start_time": 0.3, "text": "b"}]', fps=10.0)[0] == (0, 3)


def test_equal_parts_cover_lengths_that_do_not_divide() -> None:
    assert parsed("a | b | c", frames=100)[0] == (0, 33, 66)


@pytest.mark.parametrize(
    ("source", "position", "problem"),
    [
        ("", "line 1, column 1", "no prompt"),
        ("a red car", "line 1, column 1", "neither a file nor a timeline"),
        ("{}", "line 1, column 1", "no prompt"),
        ("[]", "line 1, column 1", "no prompt"),
        ('{"0": "a",\n "8" "b"}', "line 2, column 6", "no JSON"),
        ('{"0": "a",\n "x": "b"}', "line 2, column 2", "not the number of a frame"),
        ('{"0": "a", "-8": "b"}', "column 12", "not the number of a frame"),
        ('{"0": "a", "0": "b"}', "column 12", "already"),
        ('{"0": "a", "8": 3}', "column 12", "not a text"),
        ('{"0": " "}', "column 2", "empty"),
        ('{"8": "a"}', "column 2", "frames 0 to 8"),
        ("a || b", "column 4", "empty"),
        ("a | ", "column 4", "empty"),
        ("[0s-8s: a] [9s-: b]", "column 12", "frames 64 to 72"),
        ("[0s-8s: a] [7s-: b]", "column 12", "frame 56 has the prompt 'a' already"),
        ("[0s-8s: a]", "column 1", "from 64 on"),
        ("[2s-8s: a]", "column 1", "frames 0 to 16"),
        ("[0s-8s: a] b", "column 12", "expected [start: text] or [start-stop: text]"),
        ("[0s-8s a]", "column 1", "expected [start: text] or [start-stop: text]"),
        ("[8s-0s: a]", "column 1", "frames 0 to 64"),
        ("[0.5-8: a]", "column 1", "write 0.5s"),
        ("[0s-8s: ]", "column 8", "empty"),
        ('[{"start_time": 0, "txt": "a"}]', "column 2", "did you mean 'text'"),
        ('[{"text": "a"}]', "column 2", "start_time is missing"),
        ('[{"start_time": "0", "text": "a"}]', "column 2", "number of seconds"),
        ('[{"start_time": NaN, "text": "a"}]', "column 1", "NaN"),
        ('[{"start_time": 0, "startTime": 0, "text": "a"}]', "column 2", "mean the same"),
        ('[{"start_time": 0, "text": "a", "prompts": []}]', "column 2", "either text or prompts"),
        (
            '[{"start_time": 0, "prompts": [{"text": "a", "weight": 1}, {"text": "b", "weight": 2}]}]',
            "column 2",
            "blend",
        ),
        ('[{"start_time": 0, "prompts": [{"text": "a", "weight": -1}]}]', "column 2", "above 0"),
        ('["a", 3]', "column 2", "no object with start_time"),
        ('["a", " "]', "column 7", "empty"),
        ("a cat\na dog\n", "line 2, column 1", "write '|' between the prompts of one video"),
        ("a cat\na dog | a car\na boat\n", "line 2, column 1", "'longtake batch' makes a video of each line"),
        ("a cat\na dog\n[8s: a car]", "line 2, column 1", "write '|' between the prompts of one video"),
        ("a cat |\n\n a dog\n a car", "line 4, column 2", "write '|' between the prompts of one video"),
        ("a cat [5s: ]", "column 11", "empty"),
        ("00:00.000 --> later\na cat", "line 1, column 11", "expected a time before and after"),
        ("00:00.000 --> 00:08.000\n\n", "line 2, column 1", "empty"),
        ("00:00.000 --> 00:02.000\na\n\n00:03.000 --> 00:24.000\nb", "line 4", "frames 16 to 24"),
        ('{"0": "a", "settings": {}}', "column 12", "not the number of a frame"),
        ("[" * 100_000 + "{", "column 1", "expected"),
        ("[{" + '"start_time":' + "[" * 100_000, "column 1", ""),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_position(source: str, position: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        parsed(source)
    assert position in str(caught.value)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parts_of_an_endless_video_have_no_length() -> None:
    with pytest.raises(InputError, match="endless"):
        parsed("a | b", frames=None)
    with pytest.raises(InputError, match="endless"):
        parsed("[0s-8s: a]", frames=None)
    assert parsed("[0s-8s: a] [8s-: b]", frames=None)[0] == (0, 64)
    assert parsed('{"0": "a", "500": "b"}', frames=None)[0] == (0, 500)


def test_more_parts_than_frames_are_refused() -> None:
    with pytest.raises(InputError, match="3 prompts do not fit into 2 frames"):
        parsed("a|b|c", frames=2)


def test_a_file_is_named_in_the_error(tmp_path: Path) -> None:
    file = tmp_path / "story.json"
    file.write_text(json.dumps({"0": "a"})[:-1], encoding="utf-8")
    with pytest.raises(InputError, match="story.json, line 1, column 10"):
        parsed(str(file))


def test_folders_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        parsed(str(tmp_path))
    file = tmp_path / "story.json"
    file.write_bytes(b'{"0": "\xff"}')
    with pytest.raises(InputError, match="not UTF-8"):
        parsed(str(file))


def test_a_mistyped_file_is_no_timeline(tmp_path: Path) -> None:
    (tmp_path / "story.json").write_text('{"0": "a"}')
    with pytest.raises(InputError, match=r"there is no file .*story\.jsn; did you mean '.*story\.json'"):
        parsed(str(tmp_path / "story.jsn"))
    with pytest.raises(InputError, match=r"there is no file prompts\.txt"):
        parsed("prompts.txt")


def test_a_file_is_read_whatever_ends_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "story.srt"
    file.write_bytes(b"\xef\xbb\xbf1\r\n00:00:00,000 --> 00:00:24,000\r\na red car\r\n")
    assert parsed(str(file)) == ((0,), ("a red car",))
    # A line separator of Unicode is a sign of the text, and no end of a line.
    file.write_text("a red\u2028car | a boat", encoding="utf-8")
    assert parsed(str(file))[1] == ("a red\u2028car", "a boat")


def test_our_own_subtitles_are_a_timeline(tmp_path: Path) -> None:
    file = tmp_path / "out.vtt"
    file.write_text(webvtt([(0, 65, "a <b> & c"), (65, 192, "a boat")], 30000 / 1001), encoding="utf-8")
    assert parsed(str(file), fps=30000 / 1001) == ((0, 65), ("a <b> & c", "a boat"))


@pytest.mark.parametrize(
    "prompt",
    [
        "a cat | a dog",
        "[0s: a cat] [5s: a dog]",
        '{"0": "a cat"}',
        '[{"start_time": 0}]',
        '["a cat", "a dog"]',
        "00:00.000 --> 00:08.000\na cat",
    ],
)
def test_a_prompt_that_looks_like_several_is_asked_about(prompt: str) -> None:
    with pytest.raises(InputError, match="looks like .*; give it as --prompts, or say that it is one text"):
        refuse_timeline(prompt)


def test_a_prompt_that_is_a_file_is_asked_about(tmp_path: Path) -> None:
    file = tmp_path / "story.txt"
    file.write_text("a | b")
    with pytest.raises(InputError, match="is a file here"):
        refuse_timeline(str(file))
    for plain in ("a cat", "a cat [close up]", "|", "a cat {red}", "[a cat]", "a cat --> a dog"):
        refuse_timeline(plain)


def test_prompts_of_a_stranger_are_never_read_as_a_file(tmp_path: Path):
    (tmp_path / "story.txt").write_text("[0s: a secret]")
    assert read_prompts(str(tmp_path / "story.txt"), 64, 8).texts == (str(tmp_path / "story.txt"),)
    assert read_prompts("a | b", 64, 8) == PromptTimeline((0, 32), ("a", "b"))
    assert read_prompts("[0s: a] [2s: b]", 64, 8).starts == (0, 16)
    assert read_prompts('[{"start_time": 0, "text": "a"}]', 64, 8).texts == ("a",)
    with pytest.raises(InputError, match="prompts, line 1"):
        read_prompts("[4s: a]", 64, 8)
