"""Noise levels, and the one step formula that every sampler uses.

A level has alpha and sigma with  x = alpha x0 + sigma eps.  DDPM and DDIM (alpha^2 + sigma^2 = 1) and flow matching
(alpha = 1 - sigma) are both of this form, so models hand over x0 and samplers never ask which they were.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Spacing = Literal["trailing", "linspace", "leading"]
Prediction = Literal["epsilon", "v_prediction", "sample", "flow"]
Clip = Literal["x0", "x0_and_eps"]
Table = Float[Tensor, "entries"]


@dataclass(frozen=True, kw_only=True)
class Level:
    """The two coefficients of  x = alpha x0 + sigma eps,  in any shape that broadcasts against x."""

    alpha: Tensor
    sigma: Tensor

    def mix(self, x0: Tensor, eps: Tensor) -> Tensor:
        """Return x0 noised to this level."""
        return (self.alpha.to(x0) * x0 + self.sigma.to(x0) * eps.to(x0)).to(x0)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The levels of a run, cleanest first. Entry 0 is what a finished frame has; a step goes one entry down.

    The pair (now, next) is stored for every level because a library's next level need not be its next timestep
    (diffusers' DDIM steps to t - 1000 // steps).
    """

    alpha: Table
    sigma: Table
    alpha_next: Table
    sigma_next: Table
    timestep: Int[Tensor, "entries"] | Table
    """What the network is told at every level; entry 0 labels a finished frame."""

    @property
    def num_levels(self) -> int:
        """Return the number of noisy levels, which is the number of steps."""
        return len(self.alpha) - 1

    def now(self, level: Int[Tensor, "*shape"]) -> Level:
        """Return the coefficients at these levels, of the same shape, float64."""
        return Level(alpha=self.alpha[level.cpu()], sigma=self.sigma[level.cpu()])

    def next(self, level: Int[Tensor, "*shape"]) -> Level:
        """Return the coefficients one step below these levels, of the same shape, float64."""
        return Level(alpha=self.alpha_next[level.cpu()], sigma=self.sigma_next[level.cpu()])


def chained(alpha: Table, sigma: Table, timestep: Tensor) -> Schedule:
    """Return the schedule in which each level steps to the entry before it. Tables are cleanest first, float64."""
    before = torch.arange(len(alpha)).sub(1).clamp(min=0)
    return Schedule(alpha=alpha, sigma=sigma, alpha_next=alpha[before], sigma_next=sigma[before], timestep=timestep)


def to_x0(prediction: Tensor, x: Tensor, level: Level, kind: Prediction) -> Tensor:
    """Turn a network's output at `level` into x0, computed in float32 or better. `flow` predicts eps - x0."""
    wide = torch.promote_types(x.dtype, torch.float32)
    x, prediction = x.to(wide), prediction.to(wide)
    alpha, sigma = level.alpha.to(x), level.sigma.to(x)
    if kind == "sample":
        return prediction
    if kind == "v_prediction":
        return alpha * x - sigma * prediction
    if kind == "flow":
        return x - sigma * prediction
    return (x - sigma * prediction) / alpha


def step(
    x: Tensor,
    x0: Tensor,
    now: Level,
    next: Level,
    eta: float = 0.0,
    noise: Tensor | None = None,
    clip: Clip | None = None,
) -> Tensor:
    """Move x from level `now` to level `next`, given the model's x0 (DDIM eq. 12 for any alpha and sigma).

    x' = alpha' x0 + sqrt(sigma'^2 - c^2) eps + c z  with  eps = (x - alpha x0) / sigma  and
    c = eta sigma' sqrt(1 - (sigma' alpha / (sigma alpha'))^2). eta = 0 is DDIM or the flow's Euler step, eta = 1 is
    DDPM. `clip` bounds x0 to [-1, 1]: "x0" keeps the old eps (as PVDM does in DDIM), "x0_and_eps" recomputes it (as
    DDPM does). Levels must broadcast against x; sigma must be above 0. Needs `noise` (z) exactly if eta > 0.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    dtype, x, x0 = x.dtype, x.to(wide), x0.to(wide)
    alpha, sigma = now.alpha.to(x), now.sigma.to(x)
    alpha_next, sigma_next = next.alpha.to(x), next.sigma.to(x)
    clipped = x0.clamp(-1, 1) if clip else x0
    eps = (x - alpha * (clipped if clip == "x0_and_eps" else x0)) / sigma
    if eta == 0:
        return (alpha_next * clipped + sigma_next * eps).to(dtype)
    assert noise is not None
    # In float64: near sigma' = sigma the difference from 1 is what float32 rounds away.
    ratio = (next.sigma * now.alpha) / (now.sigma * next.alpha)
    c = (eta * next.sigma * (1 - ratio**2).clamp(min=0).sqrt()).to(x)
    return (alpha_next * clipped + (sigma_next**2 - c**2).clamp(min=0).sqrt() * eps + c * noise.to(x)).to(dtype)
