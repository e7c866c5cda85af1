"""The training loop: an interrupted run ends bit for bit where an uninterrupted one does."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import Generator, Tensor, nn

from longtake.errors import CheckpointError, NonFiniteError, OutputError
from longtake.train.fit.checkpoint import load_checkpoint
from longtake.train.fit.loop import FitSettings, Trained, fit, learning_rate, read_trained, step_generator
from longtake.train.fit.optimiser import Optimiser
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


def test_a_run_that_is_stopped_leaves_the_model_of_its_last_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = LineTask()
    assert not fit(task, SETTINGS, tmp_path, stop=lambda step: step == 3)
    found = load_checkpoint(tmp_path)
    assert found is not None and torch.equal(task.saved["weight"], found.tensors["ema"]["weight"])
    assert json.loads((tmp_path / "final" / "training.json").read_text()) == {"step": 3, "steps": 8}
    assert "stopped at step 3 of 8; final/ holds the model of this step" in capsys.readouterr().out
    assert fit(LineTask(), SETTINGS, tmp_path)
    assert json.loads((tmp_path / "final" / "training.json").read_text()) == {"step": 8, "steps": 8}


def test_a_time_that_is_over_before_the_first_step_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same call would come no further."""
    said = "step 0 of 8; final/ holds the model of this step; the time was over before another step could be made"
    fit(LineTask(), SETTINGS, tmp_path, lambda step: True, share=lambda: 1.1)
    assert said in capsys.readouterr().out
    fit(LineTask(), SETTINGS, tmp_path, lambda step: True, share=lambda: 0.5)
    assert "final/ holds the model of this step\n" in capsys.readouterr().out, "as a signal ends it"


def test_a_run_that_breaks_leaves_the_model_of_its_last_checkpoint_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(step: int) -> bool:
        if step == 5:
            raise KeyboardInterrupt
        return False

    fit(LineTask(), SETTINGS, tmp_path, stop=lambda step: step == 3)
    with pytest.raises(KeyboardInterrupt):
        fit(LineTask(), SETTINGS, tmp_path, stop=breaks)
    assert "broken off after step 5; final/ holds the model of step 3" in capsys.readouterr().out
    assert (tmp_path / "final" / "training.json").exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error: No space left")])
def test_a_full_disk_is_one_line_and_the_old_checkpoint_stays(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(LineTask(), SETTINGS, tmp_path, stop=lambda step: step == 3)

    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr("longtake.train.fit.checkpoint.save_file", full)
    with pytest.raises(OutputError, match=r"^cannot write the checkpoint of step 8 to [^\n]* make room[^\n]*$"):
        fit(LineTask(), SETTINGS, tmp_path)
    found = load_checkpoint(tmp_path)
    assert found is not None and found.step == 3 and not list(tmp_path.glob("*.new"))
    monkeypatch.undo()
    assert fit(LineTask(), SETTINGS, tmp_path)


@pytest.mark.parametrize("step", [2, 5])
def test_a_folder_that_is_gone_is_one_line(step: int, tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def deletes(now: int) -> bool:
        if now == step:
            shutil.rmtree(folder)
        return False

    gone = rf"^cannot write \S[^\n]* to {folder} \(that folder is gone\); the same command begins it again$"
    with pytest.raises(OutputError, match=gone):
        fit(LineTask(), replace(SETTINGS, log_every=2), folder, stop=deletes)
    assert not folder.exists() and fit(LineTask(), SETTINGS, folder)


def test_a_run_may_be_asked_for_fewer_steps_than_it_has_made(tmp_path: Path) -> None:
    fit(LineTask(), SETTINGS, tmp_path)
    shutil.rmtree(tmp_path / "final")
    assert fit(LineTask(), replace(SETTINGS, num_steps=3), tmp_path)
    assert read_trained(tmp_path / "final") == Trained(step=8, steps=8)


def test_a_checkpoint_of_a_step_below_0_is_damaged(tmp_path: Path) -> None:
    fit(LineTask(), SETTINGS, tmp_path)
    state = tmp_path / "checkpoint" / "state.json"
    state.write_text(state.read_text().replace('"step": 8', '"step": -8'))
    with pytest.raises(CheckpointError, match="is damaged .*step is -8, and there are none below 0"):
        fit(LineTask(), SETTINGS, tmp_path)


def test_earlier_checkpoints_are_kept_and_can_be_gone_back_to(tmp_path: Path) -> None:
    settings = replace(SETTINGS, keep=3, save_minutes=0.0)
    fit(LineTask(), settings, tmp_path)
    kept = sorted(path.name for path in tmp_path.glob("checkpoint*"))
    assert kept == ["checkpoint", "checkpoint-00000006", "checkpoint-00000007"]
    (tmp_path / "checkpoint-00000007").replace(tmp_path / "other")
    shutil.rmtree(tmp_path / "checkpoint")
    (tmp_path / "other").rename(tmp_path / "checkpoint")
    found = load_checkpoint(tmp_path)
    assert found is not None and found.step == 7


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


def test_the_learning_rate_falls_by_the_time_that_has_passed() -> None:
    settings = replace(SETTINGS, num_steps=1000, warmup_steps=10, decay_steps=400)
    rates = [learning_rate(settings, 20, share) for share in (0.0, 0.6, 0.8, 1.0, 1.01)]
    assert rates == [pytest.approx(rate) for rate in (0.1, 0.1, 0.05, 0.0, 0.0)]
    # Steps that run out sooner count as before.
    assert learning_rate(settings, 900, 0.5) == learning_rate(settings, 900)


def test_a_run_with_a_time_ends_at_a_low_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = Optimiser.step
    monkeypatch.setattr(Optimiser, "step", lambda self, rate, mean: (rates.append(rate), step(self, rate, mean))[1])
    settings = replace(SETTINGS, num_steps=1000, warmup_steps=0, decay_steps=1000)
    fit(LineTask(), settings, tmp_path, lambda step: step == 4, share=lambda: len(rates) / 4)
    assert rates == [pytest.approx(rate) for rate in (0.1, 0.075, 0.05, 0.025)]


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
    assert json.loads((tmp_path / "final" / "training.json").read_text())["step"] == 3


def test_pictures_of_a_run_that_diverges_end_it_with_the_advice_of_training(tmp_path: Path) -> None:
    class Wild(LineTask):
        def sample(self) -> Tensor:
            raise NonFiniteError("frame 0 is not finite; try a smaller --guidance")

    with pytest.raises(
        NonFiniteError, match=r"^the pictures of step 1 are[^\n]* holds no checkpoint yet; try a smaller"
    ):
        fit(Wild(), SETTINGS, tmp_path)
    fit(LineTask(), SETTINGS, tmp_path, stop=lambda step: step == 3)
    with pytest.raises(NonFiniteError, match=r"^the pictures of step 4 are[^\n]* is kept; try a smaller learning rate"):
        fit(Wild(), SETTINGS, tmp_path)
    assert json.loads((tmp_path / "final" / "training.json").read_text())["step"] == 3


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
