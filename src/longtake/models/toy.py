"""A model whose right answers are known: the exact denoiser of a Gaussian process over time.

A clean video is, cell by cell, a colour that its prompt decides plus a smooth wander: x0 ~ N(mu(prompt), K) with
K[i, j] = VARIANCE exp(-|i - j| / CORRELATION). Given noisy frames x = A x0 + S eps, with a level for every frame,
E[x0 | x] = mu + K A (A K A + S^2)^-1 (x - A mu). Clean frames are levels with S = 0, so infill and continuation are
exact, too. Tests, docs and examples use it; it needs no weights.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longtake.arrays import FrameIndex, FrameLevels, Frames, LatentFrames, Latents
from longtake.attention import FrameMixer
from longtake.model import Condition, TemporalHooks
from longtake.models.known_frames import CleanFrames
from longtake.models.schedules import discrete_schedule
from longtake.models.toy_spec import TOY
from longtake.schedule import Schedule, Spacing

VARIANCE = 0.25
CORRELATION = 8.0


def covariance(num_frames: int) -> Float[Tensor, "frames frames"]:
    """Return K, the covariance of a clean video over time."""
    time = torch.arange(num_frames, dtype=torch.float64)
    return VARIANCE * torch.exp(-(time[:, None] - time[None, :]).abs() / CORRELATION)


def colour(prompt: str) -> Float[Tensor, "3"]:
    """Return mu, the mean latent colour of a prompt, each channel in [-1, 1]; no prompt is grey."""
    if not prompt:
        return torch.zeros(3, dtype=torch.float64)
    digest = hashlib.blake2b(prompt.encode(), digest_size=3).digest()
    return torch.tensor([value / 127.5 - 1 for value in digest], dtype=torch.float64)


class Toy(CleanFrames, TemporalHooks):
    """The analytic model, with every capability."""

    def __init__(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> None:
        self.spec = TOY
        self.digest = "toy-1"
        self.device, self.dtype = torch.device(device), dtype
        self.mixer: FrameMixer | None = None

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Return a mean colour per prompt."""
        return Condition({"mu": torch.stack([colour(prompt) for prompt in prompts]).to(self.device)})

    def schedule(self, num_levels: int, spacing: Spacing = "trailing") -> Schedule:
        """Return levels of Stable Diffusion's betas, rescaled to end in pure noise where they end in N - 1."""
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        root = torch.cumprod(1 - betas, 0).sqrt()
        rescaled = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
        return discrete_schedule(rescaled, num_levels, spacing, "sample")

    def denoise(
        self,
        x: Latents,
        level: FrameLevels | Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
    ) -> Latents:
        """Return E[x0 | x], exactly."""
        level = level if level.ndim == 2 else level[:, None].expand(x.shape[0], x.shape[2])
        now = schedule.now(level)
        a, s = now.alpha.to(self.device), now.sigma.to(self.device)
        mu = condition.rows["mu"][prompt_index].permute(0, 2, 1)[..., None, None]
        centred = x.double() - a[:, None, :, None, None] * mu
        if self.mixer:
            gain = (VARIANCE * a / (VARIANCE * a**2 + s**2))[:, None, :, None, None]
            return (mu + _smoothed(gain * centred, self.mixer)).to(x.dtype)
        k = covariance(x.shape[2]).to(self.device)
        noisy = a[:, :, None] * k * a[:, None, :] + torch.diag_embed(s**2)
        gain = torch.linalg.solve(noisy, a[:, :, None] * k).mT
        return (mu + torch.einsum("wfg,wcghv->wcfhv", gain, centred)).to(x.dtype)

    def decode(self, latents: LatentFrames, state: Any, last: bool) -> tuple[Frames, Any]:
        """Return latents as colours: 0 is mid-grey, +-2 the ends."""
        return (0.5 + latents.permute(1, 0, 2, 3) / 4).clamp(0, 1), state

    def encode_frames(self, frames: Frames) -> LatentFrames:
        """Return the latents of pixels."""
        return ((frames - 0.5) * 4).permute(1, 0, 2, 3)

    @contextmanager
    def mixing(self, mixer: FrameMixer) -> Iterator[None]:
        """Let `mixer` mix the frames: then x0 is each frame's own expectation, smoothed by attention without a
        preference."""
        self.mixer = mixer
        try:
            yield
        finally:
            self.mixer = None


def _smoothed(x: Latents, mixer: FrameMixer) -> Latents:
    """Return every frame half itself and half the mean of the frames that it attends to."""
    windows, channels, frames, height, width = x.shape
    cells = x.permute(0, 3, 4, 2, 1).reshape(-1, frames, 1, channels)
    attended = mixer.attend(torch.zeros_like(cells), cells)(torch.zeros_like(cells))
    mixed = (cells + attended) / 2
    return mixed.reshape(windows, height, width, frames, channels).permute(0, 4, 3, 1, 2)
