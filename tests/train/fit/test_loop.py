"""The training loop: an interrupted run ends bit for bit where an uninterrupted one does."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor, nn

from longtake.errors import CheckpointError, NonFiniteError
from longtake.train.fit.checkpoint import load_checkpoint
from longtake.train.fit.loop import FitSettings, fit, learning_rate, step_generator
from longtake.train.fit.task import Scalars, Task

SETTINGS = FitSettings(num_steps=8, learning_rate=0.1, warmup_steps=2, ema_every=2, log_every=4, precision="no")


class LineTask(Task):
    """Fit a line to random points."""

    def __init__(self) -> None:
        torch.manual_seed(3)
        self.line = nn.Linear(2, 1)
        self.saved: dict[str, Tensor] = {}

    def module(self) -> nn.Module:
        return self.line

    def loss(self, generator: Generator) -> tuple[Tensor, Scalars]:
        points = torch.randn(5, 2, generator=generator)
        return (self.line(points)[:, 0] - points.sum(dim=1)).square().mean(), {"points": 5.0}

    def sample(self) -> Tensor:
        return torch.zeros(3, 4, 4)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.saved = {name: value.clone() for name, value in self.line.state_dict().items()}


def test_resumed_run_is_bit_identical(tmp_path: Path) -> None:
    whole, first, second = LineTask(), LineTask(), LineTask()
    fit(whole, SETTINGS, tmp_path / "whole")
    fit(first, SETTINGS, tmp_path / "parts", stop=lambda step: step == 3)
    assert not (tmp_path / "parts" / "final").exists()
    fit(second, SETTINGS, tmp_path / "parts")
    for name, value in whole.line.state_dict().items():
        assert torch.equal(value, second.line.state_dict()[name])
        assert torch.equal(whole.saved[name], second.saved[name])


def test_final_weights_are_the_average(tmp_path: Path) -> None:
    task = LineTask()
    fit(task, SETTINGS, tmp_path)
    found = load_checkpoint(tmp_path)
    assert found is not None and found.step == 8
    assert torch.equal(task.saved["weight"], found.tensors["ema"]["weight"])
    assert not torch.equal(task.saved["weight"], task.line.weight)


def test_a_kill_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    fit(LineTask(), SETTINGS, tmp_path, stop=lambda step: step == 3)
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    found = load_checkpoint(tmp_path)
    assert found is not None and found.step == 3


def test_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    fit(LineTask(), SETTINGS, tmp_path, stop=lambda step: step == 3)
    (tmp_path / "checkpoint" / "weights.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="damaged"):
        fit(LineTask(), SETTINGS, tmp_path)


def test_learning_rate_rises_stays_and_falls() -> None:
    settings = replace(SETTINGS, num_steps=100, warmup_steps=10, decay_steps=20)
    rates = [learning_rate(settings, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[10:80] == [pytest.approx(0.1)] * 70
    assert rates[90] == pytest.approx(0.05)
    assert 0 < rates[99] < 0.01


def test_every_step_has_its_own_numbers() -> None:
    draws = {torch.randn(1, generator=step_generator(seed, step)).item() for seed in (0, 1) for step in range(50)}
    assert len(draws) == 100


def test_a_run_that_diverges_ends_in_one_line_and_keeps_its_last_good_checkpoint(tmp_path: Path) -> None:
    fit(LineTask(), SETTINGS, tmp_path, stop=lambda step: step == 3)
    before = {file: file.read_bytes() for file in (tmp_path / "checkpoint").iterdir()}
    wild = replace(SETTINGS, num_steps=400, learning_rate=1e38, max_gradient=None)
    with pytest.raises(NonFiniteError, match=r"^the loss of step \d+ is not finite[^\n]*smaller learning rate[^\n]*$"):
        fit(LineTask(), wild, tmp_path)
    assert {file: file.read_bytes() for file in (tmp_path / "checkpoint").iterdir()} == before
    assert not (tmp_path / "final").exists()


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    task = LineTask()
    fit(task, SETTINGS, tmp_path, stop=lambda step: step == 3)

    def broken(step: int) -> bool:
        if step == 5:
            task.line.bias.data.fill_(float("nan"))
        return step == 5

    with pytest.raises(NonFiniteError, match=r"^weights at step 5 is not saved[^\n]*: bias is not finite[^\n]*$"):
        fit(task, SETTINGS, tmp_path, stop=broken)
    found = load_checkpoint(tmp_path)
    assert found is not None and found.step == 3


@pytest.mark.parametrize("name", ["weights.safetensors", "ema.safetensors", "optimizer.pt"])
def test_a_flipped_bit_in_a_checkpoint_is_noticed(tmp_path: Path, name: str) -> None:
    fit(LineTask(), SETTINGS, tmp_path, stop=lambda step: step == 3)
    file = tmp_path / "checkpoint" / name
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"damaged \({name} was changed since it was written\)"):
        fit(LineTask(), SETTINGS, tmp_path)
