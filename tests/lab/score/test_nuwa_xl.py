"""That the score of NUWA-XL's videos tells a real video from spoilt ones."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from lab.score.nuwa_xl import figures, story
from longtake.data.sprites import SpriteWorld
from longtake.metrics.controls import shuffled

FRAMES = 320
SEAMS = range(15, FRAMES, 15)


@pytest.fixture(scope="module")
def world() -> SpriteWorld:
    return story(0, FRAMES)


@pytest.fixture(scope="module")
def real(world: SpriteWorld) -> np.ndarray:
    return world.frames(0, FRAMES)


def passes(found: dict[str, Any]) -> bool:
    """Whether a video reaches what is asked of a generated one."""
    return (
        min(found["frames right"].values()) >= 0.9
        and found["blocks right"]["motion"] >= 0.7
        and 0.7 <= found["step over real"] <= 1.4
        and found["seam step over interior"] <= 1.25
    )


def test_a_real_video_passes(world: SpriteWorld, real: np.ndarray):
    assert len(world.timeline) > 1
    assert passes(figures(real, world, SEAMS)), figures(real, world, SEAMS)


def test_a_jittering_slide_show_fails(world: SpriteWorld, real: np.ndarray):
    jittering = np.concatenate([shuffled(real[start : start + 30], start) for start in range(0, FRAMES, 30)])
    found = figures(jittering, world, SEAMS)
    assert min(found["frames right"].values()) >= 0.9 and not passes(found), found
    slides = np.repeat(real[::15], 15, axis=0)
    found = figures(slides, world, SEAMS)
    assert min(found["frames right"].values()) >= 0.9 and not passes(found), found
    assert found["seam step over interior"] > 2


def test_the_video_of_another_story_fails(real: np.ndarray):
    found = figures(real, story(1, FRAMES), SEAMS)
    assert found["frames right"]["object"] < 0.5


def test_every_story_of_a_whole_tree_changes_its_scene_twelve_times():
    for number in range(3):
        shots = list(story(number, 3376).timeline.values())
        assert sum(now.scene != then.scene for then, now in pairwise(shots)) >= 12
