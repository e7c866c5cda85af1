import numpy as np
import pytest

from longtake.data.sprites import Shot, SpriteWorld
from longtake.metrics.controls import CONTROLS, blurred, frozen, looped, shuffled

SHOT = Shot(object="fish", scene="sea", motion="circles")
CLIP = SpriteWorld(2, {0: SHOT}).frames(0, 16)


def places(clip: np.ndarray) -> list[int]:
    return [next(index for index, frame in enumerate(CLIP) if np.array_equal(frame, shown)) for shown in clip]


@pytest.mark.parametrize("name", CONTROLS)
def test_controls_keep_the_shape_and_depend_on_the_seed_alone(name: str):
    first, second = CONTROLS[name](CLIP, 3), CONTROLS[name](CLIP, 3)
    assert first.shape == CLIP.shape and first.dtype == np.uint8
    assert np.array_equal(first, second) and not np.array_equal(first, CLIP)


def test_frozen_repeats_one_frame():
    assert len(set(places(frozen(CLIP, 1)))) == 1


def test_looped_repeats_a_few_neighbours():
    for seed in range(20):
        order = places(looped(CLIP, seed))
        assert 2 <= len(set(order)) <= 4
        assert max(order) - min(order) == len(set(order)) - 1


def test_shuffled_keeps_every_frame_but_hardly_any_step():
    for seed in range(20):
        order = places(shuffled(CLIP, seed))
        assert sorted(order) == list(range(16))
        assert (np.abs(np.diff(order)) == 1).mean() <= 1 / 3


def test_blurred_loses_the_detail():
    def detail(clip: np.ndarray) -> float:
        return float(np.abs(np.diff(clip.astype(float), axis=2)).mean())

    assert detail(blurred(CLIP, 0)) < 0.5 * detail(CLIP)
