"""The order of the two steps, on the toy model, along whose noise levels every path is known."""

import math

import pytest
import torch
from torch import Tensor

from longtake.models.toy import Toy, colour, covariance
from longtake.ranks.world import ALONE
from longtake.samplers.step import Uniform
from longtake.schedule import Schedule, chained

FRAMES = 8
START = torch.randn(1, 3, FRAMES, 1, 1, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def even(num_levels: int) -> Schedule:
    """Levels evenly spaced in log(alpha / sigma), all of them noisy."""
    ratio = torch.linspace(3, -2, num_levels + 1, dtype=torch.float64)
    alpha, sigma = torch.sigmoid(2 * ratio).sqrt(), torch.sigmoid(-2 * ratio).sqrt()
    return chained(alpha, sigma, torch.arange(num_levels + 1))


def exact(schedule: Schedule) -> Tensor:
    """Where the noise-free path from START ends: every part of a Gaussian keeps its place in units of its deviation."""
    parts, axes = torch.linalg.eigh(covariance(FRAMES))
    mean = colour("a")[:, None]
    (clean, noisy), (little, much) = schedule.alpha[[0, -1]], schedule.sigma[[0, -1]]
    scale = ((clean**2 * parts + little**2) / (noisy**2 * parts + much**2)).sqrt()
    centred = START[0, :, :, 0, 0] - noisy * mean
    return (clean * mean + centred @ axes @ torch.diag(scale) @ axes.T)[None, ..., None, None]


def error(schedule: Schedule, is_second: bool) -> float:
    model, x, x0 = Toy(torch.float64), START, None
    uniform = Uniform(
        model=model,
        schedule=schedule,
        condition=model.encode(["", "a"]),
        prompts=torch.ones(1, FRAMES, dtype=torch.long),
        guidance=1.0,
        cfg=ALONE.cfg,
        eta=0.0,
    )
    for level in range(schedule.num_levels, 0, -1):
        x, x0 = uniform.second_order(x, level, x0) if is_second else uniform.stepped(x, level, None)
    return (x - exact(schedule)).square().mean().sqrt().item()


@pytest.mark.parametrize(("is_second", "order"), [(False, 1), (True, 2)])
def test_order_of_convergence(is_second, order):
    errors = [error(even(num_levels), is_second) for num_levels in (40, 80, 160)]
    for rough, fine in zip(errors, errors[1:], strict=False):
        assert math.log2(rough / fine) == pytest.approx(order, abs=0.15)


def test_one_step_of_either_is_the_same():
    assert error(even(1), True) == error(even(1), False)
    assert error(even(2), True) != error(even(2), False)


@pytest.mark.parametrize("num_levels", [10, 20, 50])
def test_second_order_is_nearer_on_the_model_s_own_levels(num_levels):
    """By a quarter: they begin at pure noise and end clean, where log(alpha / sigma) has no bound, and the last step,
    of first order in both, has most of the error."""
    schedule = Toy().schedule(num_levels)
    assert error(schedule, True) < 0.85 * error(schedule, False)
