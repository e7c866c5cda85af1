"""The formula behind a plan says of released models, whose configs are here, what is counted on fake tensors."""

import pytest

from lab.measure.cards import RELEASED, configs_of, counted, longest, peak
from longtake.models import spec_of

BILLIONS = {
    "Wan2.1 T2V 1.3B": 1.42,
    "Wan2.2 TI2V 5B": 5.0,
    "Wan2.2 T2V A14B": 2 * 14.29,
    "LTX-Video 0.9.0 2B": 1.92,
    "Stable Video Diffusion XT": 1.52,
    "LTX-2 19B": 20.3,
    "CogVideoX 2b": 1.69,
    "CogVideoX 5b": 5.57,
    "AnimateDiff on SD 1.5": 1.28,
    "ModelScope 1.7B": 1.41,
    "ZeroScope 576w": 1.41,
}
"""Weights of the networks that denoise, as released."""


@pytest.mark.slow
@pytest.mark.parametrize("name", BILLIONS)
def test_plan_and_count_agree_to_a_tenth(name: str) -> None:
    parts = counted(name)
    assert parts["network"][1] == pytest.approx(2e9 * BILLIONS[name], rel=0.01)
    for part, (formula, found) in parts.items():
        assert formula == pytest.approx(found, rel=0.1), (part, formula, found)


@pytest.mark.slow
def test_what_leaves_a_card_makes_room() -> None:
    name = "Wan2.2 T2V A14B"
    none, text, model, tiles = (peak(name, 21, way) for way in ("none", "text", "model", "text, tiles"))
    expert, decoder = 2 * 14.29e9, spec_of(*configs_of(name)).decoder
    away = 4 * (decoder.parameters + decoder.remembered)
    assert none - text == pytest.approx(2 * 5.68e9, rel=0.01)
    assert text - model == pytest.approx(expert + away, rel=0.01), "the experts take turns, and the decoder with them"
    assert tiles == pytest.approx(text, rel=0.01), "the network works with more than the decoder"
    assert longest(name, 24, "model") == 0 and longest(name, 80, "model") == 21


def test_a_released_folder_is_what_its_family_reads() -> None:
    for name in RELEASED:
        configs, family = configs_of(name)
        assert set(configs.parts) <= {*family.networks, *family.others}
