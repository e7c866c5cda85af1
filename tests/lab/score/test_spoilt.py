import numpy as np
import pytest

from lab.score.spoilt import SPOILT
from longtake.data.sprites import Shot, SpriteWorld
from longtake.metrics.judge import Judge
from longtake.metrics.sprite_state.figures import StateFigures, state_figures
from longtake.metrics.sprite_state.reader import read_states

SHOT = Shot(object="penguin", scene="desert", motion="swings")
WORLD = SpriteWorld(12, {0: SHOT})
FRAMES = range(40, 46)


def figures(clip: np.ndarray) -> StateFigures:
    return state_figures(read_states([clip], {0: SHOT}), {0: SHOT})


@pytest.fixture(scope="module")
def real() -> StateFigures:
    return figures(WORLD.frames_at(FRAMES))


def test_a_real_world_has_no_fault(real: StateFigures):
    assert real.flags == [] and (real.outline or 0) > 0.98 and (real.margin or 0) > 0.98


@pytest.mark.parametrize("name", ["melted", "blended", "blob"])
def test_spoilt_shapes_rank_below(name: str, real: StateFigures):
    spoilt = figures(SPOILT[name](WORLD, FRAMES))
    assert (spoilt.outline or 0) < 0.8 < 0.98 < (real.outline or 0)
    assert (spoilt.margin or 0) < 0.6 < 0.98 < (real.margin or 0)
    assert "margin" in spoilt.flags and ("outline" in spoilt.flags or name == "blended")


def test_the_wrong_object_is_sharp_but_wrong():
    wrong = figures(SPOILT["wrong object"](WORLD, FRAMES))
    assert (wrong.outline or 0) > 0.95 and wrong.object == 0 and (wrong.margin or 0) < -0.8
    assert wrong.identity[1] == 1


def test_frozen_and_shuffled_steps_are_not_real(real: StateFigures):
    frozen, shuffled = (figures(SPOILT[name](WORLD, range(36, 44))) for name in ("frozen", "shuffled"))
    assert frozen.steps["turn"] == 0 and 0.6 < (real.steps["turn"] or 0) < 1.5 and (shuffled.steps["turn"] or 0) > 2.5
    assert {"steps turn", "steps position"} <= set(frozen.flags) and "steady" in shuffled.flags


def test_the_classifier_passes_melted_and_blended_shapes():
    clips = np.stack([SPOILT[name](WORLD, range(40, 56)) for name in ("melted", "blended")])
    assert [reading.object for reading in Judge.load().read_batch(clips)] == ["penguin", "penguin"]


def test_controls_are_the_same_every_time():
    for make in SPOILT.values():
        first = make(WORLD, range(3, 11))
        assert first.shape == (8, 64, 64, 3) and first.dtype == np.uint8
        assert (first == make(WORLD, range(3, 11))).all()
