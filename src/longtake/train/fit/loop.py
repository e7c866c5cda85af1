"""The one training loop: every model of the package is trained by `fit`."""

import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from longtake.errors import CheckpointError, InputError, NonFiniteError, OutputError
from longtake.finite import check_finite
from longtake.train.fit.checkpoint import (
    Checkpoint,
    kept_checkpoint,
    load_checkpoint,
    new_folder,
    put_in_place,
    save_checkpoint,
)
from longtake.train.fit.optimiser import Ema, Optimiser, Turn
from longtake.train.fit.record import read_noted
from longtake.train.fit.settings import FitSettings, learning_rate
from longtake.train.fit.task import AdversarialPhase, Learning, Scalars, Task, autocast
from longtake.train.fit.writing import quiet_threads, writing

_ADVICE = "try a smaller learning rate, or bf16 in place of fp16"
_RECORD = "training.json"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The content of final/training.json: how many of the steps its model has seen."""

    step: int
    steps: int

    def __post_init__(self) -> None:
        """Raise InputError for a step that no run of so many has."""
        if not 0 <= self.step <= self.steps:
            raise InputError(f"step is {self.step}, which a run of {self.steps} steps does not have")


def read_trained(final: Path) -> Trained | None:
    """Return what a model's folder says of its training; None where it says nothing. Raises CheckpointError where what
    it says is damaged."""
    return read_noted(Trained, final / _RECORD, "delete it: it only says how far the model beside it was trained")


def _kept(final: Path) -> str:
    """Return what lies there after a run was broken off, in words."""
    try:
        trained = read_trained(final)
    except CheckpointError:
        # What broke the run off is told, not this.
        return "is damaged"
    return "is not there" if trained is None else f"holds the model of step {trained.step}"


def step_generator(seed: int, step: int, part: int = 0) -> torch.Generator:
    """The random numbers of one part of a step, a function of these: nothing to save for an exact resume."""
    first, second = np.random.SeedSequence([seed, step, part]).generate_state(2).tolist()
    return torch.Generator().manual_seed(first << 31 ^ second)


def fit(
    task: Task,
    settings: FitSettings,
    folder: Path,
    stop: Callable[[int], bool] = lambda step: False,
    discriminators: AdversarialPhase | None = None,
    share: Callable[[], float] | None = None,
    save: Callable[[Path], None] | None = None,
    held_out: Callable[[], Scalars] | None = None,
) -> bool:
    """Train the task in `folder`: checkpoints, `samples/`, TensorBoard events, `log.txt`, and `final/`, the model.

    The same call on the same folder continues where the last checkpoint stands, with bit-identical results (same
    machine and number of threads). `stop(step)` ends the run early with a checkpoint, for a time limit or a test.
    With more steps, or `discriminators` that begin where the last call ended, a finished run goes on. In a job of
    several processes, each computes its share of `parts`, and the first one writes. `final/` is written beside each
    checkpoint, so that a run that ends for whatever reason leaves a model, by `save` where the task's own would not be
    whole. `share()` of the time that has passed lets the learning rate fall by time. `held_out()` is measured whenever
    pictures are made, with the average of the weights. Returns whether all steps are done.
    Raises CheckpointError where a checkpoint is damaged, InputError where the settings do not suit the machine,
    OutputError where nothing can be written,
    NonFiniteError where training diverges; a checkpoint never holds a weight that is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_threads():
        return _Run(task, settings, folder, discriminators, share, save or task.save, held_out).train(stop)


class _Run:
    """The state of one call of `fit`."""

    def __init__(
        self,
        task: Task,
        settings: FitSettings,
        folder: Path,
        discriminators: AdversarialPhase | None,
        share: Callable[[], float] | None,
        save: Callable[[Path], None],
        held_out: Callable[[], Scalars] | None,
    ) -> None:
        self.task, self.settings, self.folder, self.discriminators = task, settings, folder, discriminators
        self.share, self.write_model, self.held_out = share, save, held_out
        module = task.module()
        self.device = next(module.parameters()).device
        # accelerate fixes its precision once per process, but stages with different ones may follow each other.
        self.accelerator = Accelerator(cpu=self.device.type == "cpu", mixed_precision="no")
        self.rank, self.size = self.accelerator.process_index, self.accelerator.num_processes
        settings.check_device(self.device.type)
        settings.check_processes(self.size)
        own = Learning(betas=settings.betas, weight_decay=settings.weight_decay, max_gradient=settings.max_gradient)
        self.optimisers = {"optimizer": self._optimiser([module], own)}
        if discriminators is not None:
            groups = list(discriminators.module.children())
            self.optimisers["rival_optimizer"] = self._optimiser(groups, discriminators.learning)
        self.ema = Ema(module, settings.ema_decay, settings.ema_every)
        self.figures: Scalars = {}
        self.step = self.begun = self._restore()
        self.writer = SummaryWriter(folder / "tensorboard", purge_step=self.step) if self.rank == 0 else None

    def train(self, stop: Callable[[int], bool]) -> bool:
        if self.step >= self.settings.num_steps and self._is_written():
            self._say(f"finished already, at step {self.step}")
            return True
        try:
            self._steps(stop)
        except BaseException:
            # Where nothing can be written, that is what is told.
            with suppress(OutputError):
                self._say(f"broken off after step {self.step}; final/ {_kept(self.folder / 'final')}")
            raise
        return self._finish()

    def _is_written(self) -> bool:
        """Whether final/ holds the model of this step; a kill after the checkpoint leaves an earlier one."""
        trained = read_trained(self.folder / "final")
        return trained is not None and trained.step == self.step

    def _steps(self, stop: Callable[[int], bool]) -> None:
        started = saved = time.monotonic()
        sampled = -float("inf")
        losses: list[Tensor] = []
        done = 0
        while self.step < self.settings.num_steps and not self._anywhere(stop(self.step)):
            losses += self._advance()
            done += 1
            now = time.monotonic()
            if self.step % self.settings.log_every == 0 and losses:
                self._log(self._mean(torch.stack(losses).mean()), (now - started) / done)
                losses, started, done = [], now, 0
            if now - sampled > 60 * self.settings.sample_minutes:
                self._sample()
                sampled = time.monotonic()
            if now - saved > 60 * self.settings.save_minutes:
                self._save()
                saved = time.monotonic()

    def _optimiser(self, groups: list[nn.Module], learning: Learning) -> Optimiser:
        return Optimiser(groups, learning, self.device, scaled=self.settings.precision == "fp16")

    def _turn(self) -> tuple[Turn, float, bool]:
        """Whose turn this step is, at which learning rate, and whether it is the task's."""
        task, rate, phase = self.optimisers["optimizer"], self._rate(), self.discriminators
        if phase is None or self.step < phase.start:
            return Turn(optimiser=task, loss=self.task.loss), rate, True
        theirs = self.optimisers["rival_optimizer"]
        if (self.step - phase.start) % 2 == 0:
            return Turn(optimiser=task, loss=phase.task_loss, others=(theirs,)), rate, True
        return Turn(optimiser=theirs, loss=phase.loss, others=(task,)), phase.learning_rate, False

    def _rate(self) -> float:
        """The learning rate, the same in all processes."""
        if self.share is None:
            return learning_rate(self.settings, self.step)
        passed = torch.tensor(self.share(), device=self.device)
        return learning_rate(self.settings, self.step, float(self._mean(passed) if self.size > 1 else passed))

    def _advance(self) -> list[Tensor]:
        """Do one step; return the task's losses, if it was its turn."""
        turn, rate, is_task = self._turn()
        losses, share = [], self.size / self.settings.parts
        for part in range(self.rank, self.settings.parts, self.size):
            generator = step_generator(self.settings.seed, self.step, part)
            loss, figures = turn.run(generator, share, self._autocast())
            losses.append(loss)
            self.figures |= figures
        self._check_loss(losses)
        turn.optimiser.step(rate, self._mean if self.size > 1 else None)
        self.step += 1
        self.ema.update(self.step)
        return losses if is_task else []

    def _check_loss(self, losses: list[Tensor]) -> None:
        """Raise NonFiniteError, in every process, where a loss of this step is not finite in any."""
        if self._anywhere(not bool(torch.stack(losses).isfinite().all())):
            raise NonFiniteError(f"the loss of step {self.step + 1} is not finite (NaN, or infinite), {self._ends()}")

    def _ends(self) -> str:
        """Return what it means that training has diverged, in words."""
        return f"so training stops; {kept_checkpoint(self.folder)}; {_ADVICE}"

    def _autocast(self) -> torch.autocast:
        return autocast(self.device, self.settings.precision)

    def _mean(self, value: Tensor) -> Tensor:
        mean = self.accelerator.reduce(value, reduction="mean")
        assert isinstance(mean, Tensor)
        return mean

    def _anywhere(self, here: bool) -> bool:
        """Whether it holds in any process: all of them must end with the same step."""
        return here if self.size == 1 else bool(self._mean(torch.tensor(float(here), device=self.device)) > 0)

    def _log(self, loss: Tensor, seconds: float) -> None:
        if self.writer is None:
            return
        with writing("the figures of training", self.folder):
            for name, value in {"loss": float(loss), "seconds_per_step": seconds, **self.figures}.items():
                self.writer.add_scalar(name, value, self.step)
        figures = " ".join(f"{name} {value:.4g}" for name, value in self.figures.items())
        self._say(f"step {self.step}/{self.settings.num_steps} loss {loss:.4f} {seconds:.3f} s/step {figures}")

    def _say(self, line: str) -> None:
        if self.rank:
            return
        text = f"{datetime.now():%H:%M:%S} {line}"
        print(text, flush=True)
        with writing("log.txt", self.folder), (self.folder / "log.txt").open("a") as log:
            log.write(text + "\n")

    @torch.no_grad()
    def _sample(self) -> None:
        if self.writer is None:
            return
        try:
            with self.ema.applied(), self._autocast():
                grid = self.task.sample().float().cpu()
                figures = self.held_out() if self.held_out else {}
        except NonFiniteError as error:
            # What it says to try is for videos.
            raise NonFiniteError(
                f"the pictures of step {self.step} are not finite (NaN, or infinite), {self._ends()}"
            ) from error
        if figures:
            said = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
            self._say(f"step {self.step} on what is held out: {said}")
        picture = Image.fromarray((grid.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())
        path = self.folder / "samples" / f"{self.step:06d}.png"
        with writing(f"the pictures of step {self.step}", self.folder):
            for name, value in figures.items():
                self.writer.add_scalar(f"held_out/{name}", value, self.step)
            self.writer.add_image("samples", grid, self.step)
            path.parent.mkdir(exist_ok=True)
            picture.save(path)

    def _save(self) -> None:
        """Write a checkpoint, and the model as it is."""
        if self.rank:
            return
        tensors = {"weights": self.task.module().state_dict(), "ema": self.ema.state_dict()}
        optimisers = {"optimizer": self.optimisers["optimizer"]}
        if self.discriminators is not None and self.step > self.discriminators.start:
            tensors["rival"], optimisers = self.discriminators.module.state_dict(), self.optimisers
        for name, values in tensors.items():
            check_finite(values, f"{name} at step {self.step} is not saved, {kept_checkpoint(self.folder)}", _ADVICE)
        states = {name: one.adam.state_dict() for name, one in optimisers.items()}
        scales = {name: one.scaler.state_dict() for name, one in optimisers.items()}
        state = Checkpoint(step=self.step, tensors=tensors, optimizers=states, scales=scales)
        save_checkpoint(self.folder, state, self.settings.keep)
        final = self.folder / "final"
        with new_folder(self.folder / "final.new", f"the model of step {self.step}") as new:
            with self.ema.applied(), torch.no_grad():
                self.write_model(new)
            # A run may be asked for fewer steps than it has made.
            trained = Trained(step=self.step, steps=max(self.step, self.settings.num_steps))
            (new / _RECORD).write_text(json.dumps(asdict(trained)) + "\n")
        shutil.rmtree(put_in_place(new, final), ignore_errors=True)

    def _restore(self) -> int:
        found = load_checkpoint(self.folder)
        step = 0 if found is None else found.step
        if self._anywhere(step > 0) and not self._everywhere(step):
            raise CheckpointError(f"not every process finds the same checkpoint in {self.folder}; use a shared folder")
        if found is None:
            return 0
        self.task.module().load_state_dict(found.tensors["weights"])
        self.ema.load_state_dict(found.tensors["ema"])
        if self.discriminators is not None and "rival" in found.tensors:
            self.discriminators.module.load_state_dict(found.tensors["rival"])
        for name, optimiser in self.optimisers.items():
            if name in found.optimizers:
                optimiser.load(found.optimizers[name], found.scales.get(name, {}))
        self._say(f"continues at step {step}")
        return step

    def _everywhere(self, step: int) -> bool:
        """Whether all processes are at this step."""
        return float(self._mean(torch.tensor(float(step), device=self.device))) == step

    def _finish(self) -> bool:
        self._save()
        done = self.step >= self.settings.num_steps
        if done:
            self._sample()
        spent = self.step == self.begun and self.share is not None and self.share() > 1
        more = "; the time was over before another step could be made: give it more" if spent else ""
        held = "" if done else f" of {self.settings.num_steps}; final/ holds the model of this step{more}"
        self._say(f"{'finished' if done else 'stopped'} at step {self.step}{held}")
        if self.writer is not None:
            with writing("the figures of training", self.folder):
                self.writer.close()
        self.accelerator.wait_for_everyone()
        return done
