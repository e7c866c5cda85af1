"""The mixture of noise levels."""

import torch
from torch import Generator

from longtake.train.fit.levels import LevelMixture, sample_levels

NONE = {"uniform": 0.0, "independent": 0.0, "diagonal": 0.0, "past": 0.0, "ends": 0.0, "known": 0.0}


def draw(kind: str, num_clips: int = 400):
    return sample_levels(LevelMixture(**{**NONE, kind: 1.0}), num_clips, 16, Generator().manual_seed(0))


def test_uniform_has_one_level_and_no_clean_frame() -> None:
    timesteps, clean = draw("uniform")
    assert (timesteps == timesteps[:, :1]).all() and not clean.any()
    assert timesteps.min() < 20 and timesteps.max() > 980


def test_independent_has_many_levels() -> None:
    timesteps, clean = draw("independent")
    assert timesteps.float().std(dim=1).min() > 100 and not clean.any()


def test_diagonal_rises_by_one_level_of_a_queue() -> None:
    timesteps, clean = draw("diagonal")
    steps = timesteps.diff(dim=1)[~(clean[:, :-1] | clean[:, 1:]) & (timesteps[:, 1:] < 999) & (timesteps[:, :-1] > 0)]
    nearest = torch.tensor([1000 / 16, 1000 / 32, 1000 / 64])
    assert (steps[:, None] - nearest).abs().min(dim=1).values.max() <= 1
    assert all(((steps - near).abs() <= 1).any() for near in nearest)


def test_diagonal_has_clean_heads_and_reaches_pure_noise() -> None:
    timesteps, clean = draw("diagonal")
    heads = clean.sum(dim=1)
    assert heads.max() == 8 and (heads == 0).float().mean() > 0.5
    assert (clean[:, :-1] >= clean[:, 1:]).all(), "clean frames come first"
    assert (timesteps >= 999 - 8).any()
    assert (timesteps[clean] == 0).all()


def test_past_and_ends() -> None:
    timesteps, clean = draw("past")
    assert (clean[:, :-1] >= clean[:, 1:]).all() and clean[:, 0].all() and not clean[:, -1].any()
    assert set(clean.sum(dim=1).tolist()) == set(range(1, 16))
    timesteps, clean = draw("ends")
    assert clean[:, [0, -1]].all() and not clean[:, 1:-1].any()
    assert (timesteps[:, 1:-1] == timesteps[:, 1:2]).all()


def test_known_frames_lie_anywhere_among_frames_of_one_level() -> None:
    timesteps, clean = draw("known")
    assert set(clean.sum(dim=1).tolist()) == set(range(1, 16))
    assert 0.4 < clean.float().mean(dim=0).min() and clean.float().mean(dim=0).max() < 0.6, "no place is preferred"
    highest = timesteps.where(~clean, -1).amax(dim=1, keepdim=True)
    assert (timesteps.where(~clean, highest) == highest).all()


def test_the_same_generator_gives_the_same_levels() -> None:
    mixture = LevelMixture(uniform=1, independent=1, diagonal=1, past=1, ends=1, known=1)
    first, second = (sample_levels(mixture, 32, 16, Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
