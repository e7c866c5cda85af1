"""The score of picture autoencoders."""

import numpy as np
import pytest

from lab.score.autoencoder import FIRST_SEED, figures, unseen_frames
from longtake.train.sprites import next_recipe, recipe


def test_frames_are_of_worlds_that_no_training_has_seen() -> None:
    frames, objects = unseen_frames(3)
    assert frames.shape == (3, 64, 64, 3) and len(objects) == 3
    for stages in (recipe, next_recipe):
        caches, (vae, _) = (stages.pictures(), stages.clips()), stages.vae()
        last = [cache.first_seed + cache.num_worlds for cache in caches]
        assert max(*last, vae.seed + vae.num_frames) < FIRST_SEED


def test_the_worst_object_is_named() -> None:
    frames = np.full((3, 4, 4, 3), 100, np.uint8)
    again = frames.copy()
    again[1] += 51
    found = figures(frames, again, ["cat", "duck", "cat"])
    assert found["worst_object"] == "duck" and found["worst"] == pytest.approx(-20 * np.log10(0.2))
    assert found["psnr"] == pytest.approx(-10 * np.log10(0.04 / 3))
