from dataclasses import replace

import pytest

from longtake._generate import stream
from longtake.errors import InputError
from longtake.model import VideoSpec
from longtake.models import load_model, model_spec
from longtake.models.toy_spec import TOY
from longtake.request import Request
from longtake.sampler import Sampler
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.fifo.plan import Fifo
from longtake.samplers.nuwa_xl.plan import NuwaXl
from longtake.samplers.planning import checked_plan, unknown_words


def test_unknown_words_are_listed_once_in_order() -> None:
    spec = replace(TOY, vocabulary=frozenset({"a", "red", "car", "hot", "air", "don't"}))
    assert unknown_words(spec, "A red zebra, a zebra; hot-air quagga. Don't!") == ["zebra", "quagga"]
    assert unknown_words(TOY, "anything") == []


LEARNT = replace(TOY, learnt_guidance=3.0)


@pytest.mark.parametrize(
    ("spec", "sampler", "message"),
    [
        (TOY, Fifo(), "--negative-prompt has no effect at guidance 1; leave it out, or give another --guidance"),
        (TOY, NuwaXl(depth=2), "no effect at guidance 1"),
        (replace(TOY, vocabulary=frozenset()), Chunked(), "no effect on toy, which reads no text; leave it out"),
        (LEARNT, Chunked(), "no effect on toy, which has learnt .* or choose weights that have not learnt it"),
        (model_spec("sprites-fast"), Fifo(), "no effect on sprites-fast, .* or choose the model sprites, which takes"),
    ],
)
def test_a_negative_prompt_that_no_call_looks_at_is_refused(spec: VideoSpec, sampler: Sampler, message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked_plan(spec, Request(prompts="a car", frames=30, negative_prompt="a boat"), sampler)


@pytest.mark.parametrize("sampler", [Fifo(), NuwaXl(depth=2, fine_guidance=2.0)])
@pytest.mark.parametrize("guidance", [0.0, 2.0])
def test_one_that_some_call_looks_at_is_taken(sampler: Sampler, guidance: float) -> None:
    # At guidance 0 calls see nothing but the negative prompt.
    checked_plan(TOY, Request(prompts="a car", frames=30, guidance=guidance, negative_prompt="a boat"), sampler)


def test_the_finest_level_alone_may_look_at_it() -> None:
    request = Request(prompts="a car", frames=30, negative_prompt="a boat")
    assert checked_plan(TOY, request, NuwaXl(depth=2, fine_guidance=2.0)).guidances == {1.0, 2.0}


def test_a_loaded_model_refuses_it_as_its_plan_does() -> None:
    with pytest.raises(InputError, match="choose the model sprites, which takes any guidance"):
        stream(load_model("sprites-fast"), Request(prompts="a cat", frames=8, negative_prompt="a car"), Chunked())
