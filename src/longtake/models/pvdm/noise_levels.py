"""The noise levels that PVDM is trained and sampled at."""

import torch

from longtake.errors import InputError
from longtake.models.schedules import discrete_schedule
from longtake.schedule import Prediction, Schedule, Spacing, Table, chained

NUM_TRAIN = 1000


def alphas_cumprod(num_train: int = NUM_TRAIN) -> Table:
    """Return how much of the clean latent is left at every level of training, cleanest first.

    The square roots of the betas are evenly spaced, from 0.0015 to 0.0195.
    """
    betas = torch.linspace(0.0015**0.5, 0.0195**0.5, num_train, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0)


def pvdm_schedule(
    num_levels: int, spacing: Spacing = "trailing", prediction: Prediction = "epsilon", num_train: int = NUM_TRAIN
) -> Schedule:
    """Return `num_levels` of PVDM's levels; see `discrete_schedule`.

    Trailing timesteps are rounded down, as in the authors' DDIM sampler. Raises InputError where the count does not
    fit.
    """
    bar = alphas_cumprod(num_train)
    if spacing != "trailing":
        return discrete_schedule(bar, num_levels, spacing, prediction)
    if not 1 <= num_levels <= num_train:
        raise InputError(f"{num_levels} noise levels are not possible: the model was trained with {num_train}")
    # In float32, like theirs: the rounding decides where a level falls on a whole number.
    timestep = torch.linspace(-1, num_train - 1, num_levels + 1)[1:].long()
    bar = torch.cat([torch.ones(1, dtype=torch.float64), bar[timestep]])
    return chained(bar.sqrt(), (1 - bar).sqrt(), torch.cat([torch.zeros(1).long(), timestep]))
