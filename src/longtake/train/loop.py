"""The one training loop: every model of the package is trained by `fit`."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor
from torch.optim import AdamW
from torch.utils.tensorboard import SummaryWriter

from longtake.train.checkpoint import load_checkpoint, save_checkpoint
from longtake.train.ema import Ema
from longtake.train.task import Task


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How long, how fast and how carefully to train."""

    num_steps: int
    """Optimiser steps of the whole run."""
    learning_rate: float
    """Peak of the learning rate, reached after the warm-up."""
    warmup_steps: int = 100
    """Steps over which the learning rate rises from 0."""
    decay_steps: int = 0
    """Last steps, over which the learning rate falls to 0 in a straight line; 0 keeps it constant."""
    weight_decay: float = 0.01
    """AdamW's weight decay."""
    max_gradient: float = 1.0
    """Gradients are scaled down to this norm."""
    ema_decay: float = 0.999
    """Share of the old average that one step keeps."""
    ema_every: int = 4
    """Steps between updates of the average."""
    precision: Literal["no", "bf16"] = "bf16"
    """Arithmetic of the forward pass; weights and optimiser stay in float32."""
    seed: int = 0
    """Seed of data order and noise."""
    log_every: int = 50
    """Steps between log lines and TensorBoard scalars."""
    sample_minutes: float = 5.0
    """Minutes between grids of pictures."""
    save_minutes: float = 5.0
    """Minutes between checkpoints."""


def learning_rate(settings: FitSettings, step: int) -> float:
    """Learning rate of this step: a rise, a plateau, a fall."""
    rise = (step + 1) / max(settings.warmup_steps, 1)
    fall = (settings.num_steps - step) / max(settings.decay_steps, 1)
    return settings.learning_rate * min(1.0, rise, fall)


def step_generator(seed: int, step: int) -> torch.Generator:
    """The random numbers of one step, a function of seed and step: nothing to save for an exact resume."""
    first, second = np.random.SeedSequence([seed, step]).generate_state(2).tolist()
    return torch.Generator().manual_seed(first << 31 ^ second)


def fit(task: Task, settings: FitSettings, folder: Path, stop: Callable[[int], bool] = lambda step: False) -> None:
    """Train the task in `folder`: checkpoints, `samples/`, TensorBoard events and `log.txt`; `final/` when done.

    The same call on the same folder continues where the last checkpoint stands, with bit-identical results (same
    machine and number of threads). `stop(step)` ends the run early with a checkpoint, for a time limit or a test.
    Raises CheckpointError where a checkpoint is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _Run(task, settings, folder).train(stop)


class _Run:
    """The state of one call of `fit`."""

    def __init__(self, task: Task, settings: FitSettings, folder: Path) -> None:
        self.task, self.settings, self.folder = task, settings, folder
        module = task.module()
        # accelerate fixes its precision once per process, but stages with different ones may follow each other.
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="no")
        optimizer = AdamW(
            [parameter for parameter in module.parameters() if parameter.requires_grad],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            betas=(0.9, 0.99),
            fused=True,
        )
        self.optimizer = self.accelerator.prepare(optimizer)
        self.ema = Ema(module, settings.ema_decay, settings.ema_every)
        self.step = self._restore()
        self.writer = SummaryWriter(folder / "tensorboard", purge_step=self.step)

    def train(self, stop: Callable[[int], bool]) -> None:
        started = saved = time.monotonic()
        sampled = -float("inf")
        losses: list[Tensor] = []
        while self.step < self.settings.num_steps and not stop(self.step):
            loss, scalars = self._advance()
            losses.append(loss)
            now = time.monotonic()
            if self.step % self.settings.log_every == 0:
                self._log(float(torch.stack(losses).mean()), scalars, (now - started) / len(losses))
                losses, started = [], now
            if now - sampled > 60 * self.settings.sample_minutes:
                self._sample()
                sampled = time.monotonic()
            if now - saved > 60 * self.settings.save_minutes:
                self._save()
                saved = time.monotonic()
        self._finish()

    def _advance(self) -> tuple[Tensor, dict[str, float]]:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, self.step)
        with self._autocast():
            loss, scalars = self.task.loss(step_generator(self.settings.seed, self.step))
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.task.module().parameters(), self.settings.max_gradient)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.ema.update(self.step)
        return loss.detach(), scalars

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16")

    def _log(self, loss: float, scalars: dict[str, float], seconds: float) -> None:
        for name, value in {"loss": loss, "seconds_per_step": seconds, **scalars}.items():
            self.writer.add_scalar(name, value, self.step)
        figures = " ".join(f"{name} {value:.4g}" for name, value in scalars.items())
        self._say(f"step {self.step}/{self.settings.num_steps} loss {loss:.4f} {seconds:.3f} s/step {figures}")

    def _say(self, line: str) -> None:
        text = f"{datetime.now():%H:%M:%S} {line}"
        print(text, flush=True)
        with (self.folder / "log.txt").open("a") as log:
            log.write(text + "\n")

    @torch.no_grad()
    def _sample(self) -> None:
        with self.ema.applied(), self._autocast():
            grid = self.task.sample().float()
        self.writer.add_image("samples", grid, self.step)
        path = self.folder / "samples" / f"{self.step:06d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((grid.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()).save(path)

    def _save(self) -> None:
        weights = {name: value.detach() for name, value in self.task.module().state_dict().items()}
        save_checkpoint(self.folder, self.step, weights, self.ema.state_dict(), self.optimizer.state_dict())

    def _restore(self) -> int:
        found = load_checkpoint(self.folder)
        if found is None:
            return 0
        step, weights, ema, optimizer = found
        self.task.module().load_state_dict(weights)
        self.ema.load_state_dict(ema)
        self.optimizer.load_state_dict(optimizer)
        self._say(f"continues at step {step}")
        return step

    def _finish(self) -> None:
        self._save()
        if self.step == self.settings.num_steps:
            self._sample()
            with self.ema.applied():
                self.task.save(self.folder / "final")
            self._say(f"finished at step {self.step}")
        self.writer.close()
