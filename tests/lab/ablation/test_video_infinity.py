"""The measures of the Video-Infinity ablation, on videos whose answer is known."""

import numpy as np
import pytest

from lab.ablation.video_infinity import SHOTS, clips_of, distances, horizon_row, mean_rows, tint
from longtake.data.sprites import SpriteWorld


@pytest.mark.parametrize("shot", SHOTS, ids=lambda shot: shot.scene)
def test_the_horizon_of_real_worlds_is_found(shot):
    found, real = [], []
    for seed in range(10):
        world = SpriteWorld(seed, {0: shot})
        found.append(float(horizon_row(world.frames(200, 216))[0]))
        real.append(world.state(208).horizon)
    assert np.corrcoef(found, real)[0, 1] > 0.9


def test_the_tint_sees_the_margins_alone():
    clip = np.full((4, 64, 64, 3), 100, np.uint8)
    clip[:, 20:40, 20:40] = 255
    assert np.allclose(tint(clip), 100)


def test_clips_of_one_video_are_near_and_videos_far_apart():
    videos = [[np.array([10.0 * seed + 0.1 * clip]) for clip in range(4)] for seed in range(3)]
    far, across = distances(videos)
    assert far == pytest.approx(0.25)
    assert across == pytest.approx(np.mean([10, 10, 20]), rel=0.01)


def test_clips_tile_a_video():
    video = np.arange(48, dtype=np.uint8).reshape(48, 1, 1, 1)
    assert np.array_equal(np.concatenate(clips_of(video, 16)), video) and len(clips_of(video, 16)) == 3


def test_means_of_tables():
    tables = [{"local": {"far_x": near}, "unrelated clips": {"far_x": far}} for near, far in ((1.0, 2.0), (2.0, 4.0))]
    assert mean_rows(tables) == {
        "local": {"far_x": 1.5, "far_x_over_unrelated": 0.5},
        "unrelated clips": {"far_x": 3.0, "far_x_over_unrelated": 1.0},
    }
