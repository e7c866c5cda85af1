"""How a training run is set. Imports no torch, so that a command line is checked before anything is loaded."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from longtake.errors import InputError
from longtake.typed import Setting, Typed

Precision = Literal["no", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class FitSettings(Typed):
    """How long, how fast and how carefully to train."""

    num_steps: Annotated[int, Setting(name="steps")]
    """Optimiser steps."""
    learning_rate: float
    """Peak of the learning rate, reached after the warm-up."""
    warmup_steps: int = 100
    """Steps over which the learning rate rises from 0."""
    decay_steps: int = 0
    """Last steps, over which the learning rate falls to 0 in a straight line; 0 keeps it constant."""
    betas: tuple[float, float] = (0.9, 0.99)
    """How long AdamW remembers gradients and their squares."""
    weight_decay: float = 0.01
    """AdamW's weight decay."""
    max_gradient: float | None = 1.0
    """Gradients are scaled down to this norm; None leaves them as they are."""
    parts: int = 1
    """Batches whose gradients are averaged for one step: one after the other, or shared out over the processes of a
    job. Each is drawn by itself, so that the number of processes changes rounding only."""
    ema_decay: float = 0.999
    """Share of the old average of the weights that one step keeps."""
    ema_every: int = 4
    """Steps between updates of the average."""
    precision: Precision = "bf16"
    """Arithmetic of the forward pass; weights and optimiser stay in float32. fp16 needs a GPU."""
    seed: int = 0
    """Seed of weights, data order and noise."""
    log_every: int = 50
    """Steps between log lines and TensorBoard scalars."""
    sample_minutes: float = 5.0
    """Minutes between grids of pictures."""
    save_minutes: float = 5.0
    """Minutes between checkpoints, each with a model in final/ as it is then."""
    keep: int = 1
    """Checkpoints that are kept: the last one, and those before it as checkpoint-STEP."""

    def __post_init__(self) -> None:
        """Raise InputError for values that no run can have."""
        super().__post_init__()
        least = {
            "num_steps": 1,
            "parts": 1,
            "ema_every": 1,
            "log_every": 1,
            "keep": 1,
            "warmup_steps": 0,
            "decay_steps": 0,
        }
        for name, bound in (least | {"seed": 0, "weight_decay": 0}).items():
            if not bound <= getattr(self, name) < math.inf:
                raise InputError(f"{name} cannot be {getattr(self, name)}; use {bound} or more")
        above = (self.learning_rate, *(() if self.max_gradient is None else (self.max_gradient,)))
        if not all(0 < value < math.inf for value in above):
            raise InputError("learning_rate and max_gradient must be above 0, and finite")
        if not all(0 <= share < 1 for share in (*self.betas, self.ema_decay)):
            raise InputError("betas and ema_decay must be 0 or more, and below 1")

    def check_processes(self, size: int) -> None:
        """Raise InputError where so many processes cannot share a step evenly."""
        if self.parts % size:
            raise InputError(
                f"{self.parts} parts of a step cannot be shared by {size} processes; "
                f"use --parts {size}, or a multiple of it"
            )

    def check_device(self, device: str) -> None:
        """Raise InputError where it cannot compute in this precision."""
        if self.precision == "fp16" and device == "cpu":
            raise InputError("precision fp16 needs a GPU; use bf16, or no")


@dataclass(frozen=True, kw_only=True)
class Batches(Typed):
    """How much a step sees."""

    batch_size: int
    """Clips in a batch."""

    def __post_init__(self) -> None:
        """Raise InputError for a batch without clips."""
        super().__post_init__()
        if self.batch_size < 1:
            raise InputError(f"a batch of {self.batch_size} clips trains nothing; use 1 or more")


@dataclass(frozen=True, kw_only=True)
class ReconstructionLoss(Batches):
    """Batches of an autoencoder."""

    decoder_only: Annotated[bool, Setting(option=False)] = False
    """Leave the encoder as it is, so that latents that were made with it stay valid."""
    latent_noise: Annotated[float, Setting(option=False)] = 0.0
    """Standard deviation of noise on the latents that are decoded: those of a diffusion model are not exact."""


@dataclass(frozen=True, kw_only=True)
class DiffusionLoss(Batches):
    """Batches of a diffusion model, and the pictures that it makes on the way."""

    drop_text: float = 0.1
    """Share of clips that are trained with the empty prompt, for guidance; no effect without text."""
    sample_steps: int = 16
    """Steps of the pictures made on the way."""
    guidance: float = 3.0
    """Guidance scale of the pictures made on the way; no effect without text."""

    def __post_init__(self) -> None:
        """Raise InputError for values that mean nothing."""
        super().__post_init__()
        if not 0 <= self.drop_text <= 1 or self.guidance < 0:
            raise InputError("drop_text is a share, from 0 to 1, and guidance cannot be below 0")
        if not 1 <= self.sample_steps <= 1000:
            raise InputError(f"pictures cannot be made in {self.sample_steps} steps; use 1 to 1000")


def learning_rate(settings: FitSettings, step: int, share: float = 0.0) -> float:
    """Learning rate of this step: a rise, a plateau, a fall.

    Where time will end the run before its steps do, `share` of it that has passed counts as that share of the steps.
    """
    rise = (step + 1) / max(settings.warmup_steps, 1)
    fall = min(settings.num_steps - step, (1 - share) * settings.num_steps) / max(settings.decay_steps, 1)
    return settings.learning_rate * max(0.0, min(1.0, rise, fall))
