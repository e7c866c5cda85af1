from dataclasses import fields, replace

import numpy as np
import pytest

from longtake.data.sprites import MOTIONS, Shot, SpriteWorld
from longtake.metrics.of_video import State
from longtake.metrics.sprite_state import BOUNDS
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
    assert frozen.steps["turn"] == 0 and set(frozen.flags) == {"steps turn", "phase", "speed"}
    order = np.random.default_rng(0).permutation(48)
    shuffled = state_figures([truth(SPIN)[index] for index in order], {0: SPIN})
    assert (shuffled.steady or 0) < 0.3 and {"steady", "steps turn"} <= set(shuffled.flags)


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
        assert set(state_figures(states, {0: SPIN}).flags) == {"steady", "kept 1"}


@pytest.mark.parametrize("motion", MOTIONS)
def test_speed_and_phase_tell_the_clock_of_a_motion(motion: str):
    shot = replace(SPIN, motion=motion)
    states = truth(shot, 84)

    def clock(*numbers: int) -> tuple[float | None, float | None]:
        figures = state_figures([states[number] for number in numbers], {0: shot})
        return figures.speed, figures.phase

    (speed, phase), (slow, _) = clock(*range(84)), clock(*np.repeat(range(42), 2))
    (back, _), (frozen, none) = clock(*range(83, -1, -1)), clock(*[0] * 84)
    if motion == "rests":
        assert speed is phase is frozen is None
        return
    assert speed is not None and slow is not None and back is not None
    assert 0.7 < speed < 1.3 and slow < 0.7 * speed and frozen == 0 and (phase is None) == (none is None)
    # What swings, bounces and pulses looks the same when it is played backwards.
    mirrored = motion in ("swings", "bounces", "pulses")
    assert back == pytest.approx(speed if mirrored else -speed, abs=0.1)
    if phase is not None:
        shuffled = clock(*np.random.default_rng(0).permutation(84))[1]
        looped = clock(*[5, 6, 7] * 28)[1]
        assert phase > 0.9 and none == 0 and shuffled is not None and shuffled < 0.7 and (looped or 0) < 0.7


def test_what_no_caption_says_is_kept_or_moves_as_in_real_worlds():
    states = truth(SPIN, 80)
    dimmed = [
        replace(state, pose=replace(state.pose, tint=(1 - number / 160,) * 3)) for number, state in enumerate(states)
    ]
    figures = state_figures(dimmed, {0: SPIN})
    assert figures.kept[1] == 1 and (figures.kept[64] or 0) < 0.5 and figures.flags == ["kept 64"]
    sunk = [replace(state, scenery=state.scenery.lowered(6 * (n % 2))) for n, state in enumerate(states)]
    assert state_figures(sunk, {0: SPIN}).kept == {1: 0, 4: 1, 16: 1, 64: 1}


def test_an_object_that_leaves_comes_back_as_itself_and_in_time():
    states = truth(SPIN, 90)
    other = [replace(state, object="frog") for state in states]
    empty = [replace(state, object=None, empty=True) for state in states]

    def left(*parts: list[FrameState]) -> tuple[int, float | None]:
        figures = state_figures([state for part in parts for state in part], {0: SPIN})
        return figures.absences, figures.returned

    assert left(states) == (0, None)
    assert left(states[:20], empty[:14], states[34:]) == (1, 1)
    assert left(states[:20], empty[:14], other[34:]) == (1, 0)
    assert left(states[:20], empty[:40], states[60:]) == left(states[:20], empty[:40]) == (1, 0)
    # Still under way at the end, a flicker, and nothing that could have left.
    assert left(states[:20], empty[:14]) == (1, None)
    assert left(states[:20], empty[:2], states[22:]) == left(empty[:10], states[:20]) == (0, None)


def test_curves_say_where_an_outline_gets_lost():
    states = truth(SPIN, 40)
    lost = states[:20] + [replace(state, outline=0.25) for state in states[20:]]
    gone = [*lost[:10], replace(lost[10], empty=True, outline=0), *lost[11:]]
    assert state_figures(gone, {0: SPIN}).curves["outline"] == [1.0] * 20 + [0.25] * 20


def test_every_bound_is_of_a_figure_and_marks_it():
    figures = state_figures([replace(state, outline=0.69) for state in truth(SPIN)], {0: SPIN})
    assert figures.flags == ["outline"] and BOUNDS.keys() <= {field.name for field in fields(figures)}
    assert State.bounds["outline"].holds(0.7) and not State.bounds["outline"].holds(figures.outline or 0)
