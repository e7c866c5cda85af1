"""What of a prompt does not reach a model."""

import pytest

from longtake.models import model_spec
from longtake.request import PromptTimeline, Request
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.planning import checked_plan, cut_prompts, plan_warnings

LONG = "a red cat spins in the forest, " * 4 + "a blue whale"


@pytest.mark.parametrize("name", ["sprites", "pvdm-sprites", "nuwa-sprites"])
def test_what_the_text_encoder_has_no_room_for_is_told(name: str) -> None:
    spec = model_spec(name)
    (warning,) = cut_prompts(spec, ["a red cat", LONG, LONG])
    assert f"{name}, which reads its first {(spec.prompt_tokens or 0) - 2} tokens (words or pieces of words)" in warning
    assert warning.endswith("a blue whale' on")


def test_what_just_fits_is_not_cut() -> None:
    # A token a word, and two signs of the encoder's own.
    spec = model_spec("sprites")
    words = ["cat"] * ((spec.prompt_tokens or 0) - 2)
    assert cut_prompts(spec, [" ".join(words)]) == []
    assert len(cut_prompts(spec, [" ".join([*words, "whale"])])) == 1


def test_of_many_the_first_are_told() -> None:
    warnings = cut_prompts(model_spec("sprites"), [f"{LONG} {number}" for number in range(50)])
    assert len(warnings) == 4 and "47 further prompts" in warnings[-1]


def test_the_plan_tells_of_prompts_that_are_reached() -> None:
    spec = model_spec("sprites")
    request = Request(prompts=PromptTimeline((0, 60, 200), ("a cat", LONG, LONG + " b")), frames=100)
    told = [text for text in plan_warnings(checked_plan(spec, request, Chunked())) if "too long" in text]
    assert len(told) == 1
