import numpy as np

from lab.score.video_infinity_scenes import scene_timeline, shares


def test_every_change_is_one_of_scene_alone():
    timeline = scene_timeline(12, 64)
    shots = list(timeline.values())
    assert list(timeline) == list(range(0, 13 * 64, 64))
    assert len({(shot.object, shot.motion) for shot in shots}) == 1
    assert all(a.scene != b.scene for a, b in zip(shots, shots[1:], strict=False))


def test_shares_add_up():
    old = np.array([0.9, 0.5, 0.1, 0.1], np.float32)
    new = np.array([0.0, 0.4, 0.8, 0.1], np.float32)
    assert shares(old, new) == {"old": 0.25, "new": 0.25, "both": 0.25, "neither": 0.25}
