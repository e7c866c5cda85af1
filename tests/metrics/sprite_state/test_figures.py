from dataclasses import replace

import numpy as np
import pytest

from longtake.data.sprites import MOTIONS, Shot, SpriteWorld
from longtake.metrics.sprite_state.figures import state_figures, true_state
from longtake.metrics.sprite_state.reader import FrameState

SPIN = Shot(object="cat", scene="forest", motion="spins")


def truth(shot: Shot, frames: int = 48, seed: int = 3) -> list[FrameState]:
    world = SpriteWorld(seed, {0: shot})
    return [true_state(world, frame) for frame in range(frames)]


@pytest.mark.parametrize("motion", MOTIONS)
def test_real_worlds_have_no_fault(motion: str):
    shot = replace(SPIN, motion=motion)
    figures = state_figures(truth(shot), {0: shot})
    assert figures.flags == [] and figures.object == figures.scene == figures.outline == figures.margin == 1
    assert figures.identity == {1: 1, 4: 1, 16: 1} and figures.empty == 0 and figures.steady == 1
    assert all(0.8 < ratio < 1.25 for ratio in figures.steps.values() if ratio is not None)


def test_a_frozen_and_a_shuffled_video_are_flagged():
    frozen = state_figures(truth(SPIN)[:1] * 48, {0: SPIN})
    assert frozen.steps["turn"] == 0 and frozen.flags == ["step turn"]
    order = np.random.default_rng(0).permutation(48)
    shuffled = state_figures([truth(SPIN)[index] for index in order], {0: SPIN})
    assert (shuffled.steady or 0) < 0.3 and {"steady", "step turn"} <= set(shuffled.flags)


def test_identity_counts_pairs_of_one_object_at_each_lag():
    names = ["cat", "cat", "frog", "frog"] * 6
    states = [replace(state, object=name) for state, name in zip(truth(SPIN, 24), names, strict=True)]
    figures = state_figures(states, {0: SPIN})
    assert figures.object == 0.5 and figures.identity == {1: pytest.approx(12 / 23), 4: 1, 16: 1}
    unnamed = [replace(state, object=None) for state in states]
    assert state_figures(unnamed).identity[1] == 0 and state_figures(unnamed).steady is None


def test_a_change_that_was_asked_for_and_an_empty_picture_are_no_fault():
    other = Shot(object="fish", scene="sea", motion="rests")
    states = truth(SPIN, 24) + truth(other, 24)
    figures = state_figures(states, {0: SPIN, 24: other})
    assert figures.identity[1] == 1 and figures.object == 1 and figures.flags == []
    gone = [replace(state, object=None, empty=True, outline=0.0) for state in states[:12]] + states[12:]
    figures = state_figures(gone, {0: SPIN, 24: other})
    assert figures.empty == 0.25 and figures.outline == 1 and figures.object == 1


def test_without_prompts_nothing_is_said_of_what_was_asked_for():
    figures = state_figures(truth(SPIN))
    assert figures.object is None and figures.scene is None and set(figures.steps.values()) == {None}
    assert figures.identity[16] == 1 and figures.flags == []


def test_a_jittering_size_and_tint_are_not_steady():
    for name, jitter in (
        ("size", lambda pose, sign: pose.size + sign),
        ("tint", lambda _, sign: (0.9 + 0.1 * sign,) * 3),
    ):
        poses = [replace(state.pose, **{name: jitter(state.pose, (-1) ** n)}) for n, state in enumerate(truth(SPIN))]
        states = [replace(state, pose=pose) for state, pose in zip(truth(SPIN), poses, strict=True)]
        assert state_figures(states, {0: SPIN}).flags == ["steady"]
