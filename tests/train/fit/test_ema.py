"""The moving average of the weights."""

from pathlib import Path

import pytest
import torch
from torch import nn

from longtake.train.fit.optimiser import Ema
from longtake.train.pvdm.settings import DiffusionRun


def test_average_follows_and_returns() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 0.0)
    ema = Ema(layer, decay=0.5, every=1)
    nn.init.constant_(layer.weight, 1.0)
    for step in range(100, 103):
        ema.update(step)
    assert ema.average[0].item() == pytest.approx(1 - 0.5**3)
    with ema.applied():
        assert layer.weight.item() == pytest.approx(0.875)
    assert layer.weight.item() == 1.0


def test_rare_updates_forget_as_fast() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 0.0)
    often, rarely = Ema(layer, decay=0.9, every=1), Ema(layer, decay=0.9, every=4)
    nn.init.constant_(layer.weight, 1.0)
    for step in range(1001, 1009):
        often.update(step)
        rarely.update(step)
    torch.testing.assert_close(often.average, rarely.average)


def test_the_first_average_is_close_to_the_weights() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 0.0)
    ema = Ema(layer, decay=0.9999, every=1)
    nn.init.constant_(layer.weight, 1.0)
    for step in range(1, 20):
        ema.update(step)
    assert ema.average[0].item() > 0.9


@pytest.mark.parametrize("step", [25_000, 400_000, 4_000_000])
def test_pvdm_forgets_as_the_authors_do(step: int) -> None:
    """They keep min(0.9999, (1 + k) / (10 + k)) of the average at their k-th update, one in 25 iterations."""
    layer, settings = nn.Linear(1, 1, bias=False), DiffusionRun(autoencoder=Path()).fit
    nn.init.constant_(layer.weight, 0.0)
    ema = Ema(layer, decay=settings.ema_decay, every=settings.ema_every)
    nn.init.constant_(layer.weight, 1.0)
    for iteration in range(step, step + 25):
        ema.update(iteration)
    updates = step / 25
    assert ema.average[0].item() == pytest.approx(1 - min(0.9999, (1 + updates) / (10 + updates)), rel=0.02)
