"""Requests and prompt timelines refuse what no video can be."""

from pathlib import Path
from typing import Any

import pytest

from longtake.errors import InputError
from longtake.request import PromptTimeline, Request

PROMPTS = PromptTimeline((0, 10, 30), ("a", "b", "c"))


def test_a_prompt_holds_until_the_next_and_the_last_for_ever() -> None:
    assert [PROMPTS.at(frame) for frame in (-5, 0, 9, 10, 29, 30, 10**9)] == [0, 0, 0, 1, 1, 2, 2]


def test_spans_end_with_the_video() -> None:
    assert PROMPTS.spans(20) == [(0, 10, "a"), (10, 20, "b")]
    assert PROMPTS.spans(30) == [(0, 10, "a"), (10, 30, "b")]
    assert PROMPTS.spans(None) == [(0, 10, "a"), (10, 30, "b"), (30, None, "c")]


@pytest.mark.parametrize(
    ("starts", "texts", "problem"),
    [
        ((), (), "no prompt"),
        ((0, 1), ("a",), "no prompt"),
        ((5,), ("a",), "must start at frame 0"),
        ((0, 8), ("a", "  "), "frame 8 is empty"),
        ((0, 8, 8), ("a", "b", "c"), "does not come after"),
        ((0, 8, 4), ("a", "b", "c"), "does not come after"),
    ],
)
def test_impossible_timelines_are_refused(starts: tuple[int, ...], texts: tuple[str, ...], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        PromptTimeline(starts, texts)


@pytest.mark.parametrize("setting", [{"frames": 0}, {"frames": -3}, {"steps": 0}, {"guidance": -1}, {"guidance": 1e9}])
def test_impossible_numbers_are_refused(setting: dict) -> None:
    with pytest.raises(InputError):
        Request(**{"prompts": PROMPTS, "frames": 10, **setting})


def test_a_plain_text_is_the_prompt_of_all_frames() -> None:
    request = Request(prompts="a cat", frames=8)  # pyright: ignore[reportArgumentType]
    assert request == Request(prompts=PromptTimeline.constant("a cat"), frames=8)
    assert request.prompts.at(7) == 0
    assert PromptTimeline.constant("a\n\n tabby \r\ncat\u2028x  y") == PromptTimeline.constant("a tabby cat\u2028x  y")
    with pytest.raises(InputError, match="frame 0 is empty"):
        Request(prompts=" ")  # pyright: ignore[reportArgumentType]


def test_what_a_video_begins_with_may_be_a_path() -> None:
    begun: Any = Path("a.png")
    assert Request(prompts=PROMPTS, init=begun) == Request(prompts=PROMPTS, init="a.png")
