"""The score of picture autoencoders."""

import numpy as np
import pytest

from lab.score.autoencoder import FIRST_SEED, figures, unseen_frames
from longtake.train.sprites import next_recipe, recipe
from longtake.train.sprites.cache import CacheSettings
from longtake.train.sprites.vae import VaeSettings


def test_frames_are_of_worlds_that_no_training_has_seen() -> None:
    frames, objects = unseen_frames(3)
    assert frames.shape == (3, 64, 64, 3) and len(objects) == 3
    for stages in (recipe.STAGES, next_recipe.STAGES):
        settings = [part for stage in stages.values() for part in stage.settings]
        last = [part.first_seed + part.num_worlds for part in settings if isinstance(part, CacheSettings)]
        drawn = [part.seed + part.num_frames for part in settings if isinstance(part, VaeSettings)]
        assert len(last) >= 2 and len(drawn) == 2 and max(last + drawn) < FIRST_SEED


def test_the_worst_object_is_named() -> None:
    frames = np.full((3, 4, 4, 3), 100, np.uint8)
    again = frames.copy()
    again[1] += 51
    found = figures(frames, again, ["cat", "duck", "cat"])
    assert found["worst_object"] == "duck" and found["worst"] == pytest.approx(-20 * np.log10(0.2))
    assert found["psnr"] == pytest.approx(-10 * np.log10(0.04 / 3))
