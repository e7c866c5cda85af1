"""Which noise level every frame of a training clip gets: the mixture that lets one network serve many samplers.

Timesteps count 0 .. 999 from nearly clean to pure noise. A clean frame is exactly clean and carries the label 0.
"""

from dataclasses import astuple, dataclass

import torch
from jaxtyping import Bool, Int
from torch import Generator, Tensor

NUM_TIMESTEPS = 1000
LEAST_SIGMA = 0.2
"""Below this level errors of x0 count for less than those of v."""

Timesteps = Int[Tensor, "clips frames"]
Clean = Bool[Tensor, "clips frames"]


@dataclass(frozen=True, kw_only=True)
class LevelMixture:
    """Relative weights of the kinds of noise levels in a batch."""

    uniform: float = 1.0
    """One level for the whole clip: ordinary sampling."""
    independent: float = 0.0
    """A level for every frame by itself."""
    diagonal: float = 0.0
    """Rising levels, a window of a FIFO queue of 1, 2 or 4 partitions; half of them reach into the clean head."""
    past: float = 0.0
    """Clean frames first, one level for the rest: continuation."""
    ends: float = 0.0
    """First and last frame clean, one level between them: infill."""
    known: float = 0.0
    """Some frames anywhere clean, one level for the others: keyframes among frames to be made."""


def sample_levels(
    mixture: LevelMixture, num_clips: int, num_frames: int, generator: Generator
) -> tuple[Timesteps, Clean]:
    """Draw a kind per clip, then its levels; returns timesteps and which frames are clean."""
    weights = torch.tensor(astuple(mixture), dtype=torch.float32)
    kinds = torch.multinomial(weights, num_clips, replacement=True, generator=generator)
    draws = (_uniform, _independent, _diagonal, _past, _ends, _known)
    rows = [draws[kind](num_frames, generator) for kind in kinds.tolist()]
    timesteps = torch.stack(rows)
    clean = timesteps < 0
    return timesteps.clamp(min=0), clean


def _integer(start: int, stop: int, generator: Generator) -> int:
    return int(torch.randint(start, stop, (1,), generator=generator))


def _uniform(num_frames: int, generator: Generator) -> Tensor:
    return torch.full((num_frames,), _integer(0, NUM_TIMESTEPS, generator))


def _independent(num_frames: int, generator: Generator) -> Tensor:
    return torch.randint(0, NUM_TIMESTEPS, (num_frames,), generator=generator)


def _diagonal(num_frames: int, generator: Generator) -> Tensor:
    """Level l of T is timestep round(1000 l / T) - 1; levels below 1 are clean (FIFO-Diffusion's lookahead).

    FIFO's windows start at multiples of half a window; any start is drawn here, and a fraction of a level is
    added, so that no queue length is special.
    """
    num_levels = num_frames * 2 ** _integer(0, 3, generator)
    least = -num_frames // 2 if _integer(0, 2, generator) else 0
    start = _integer(least, num_levels - num_frames + 1, generator)
    level = start + 1 + torch.arange(num_frames)
    shift = torch.rand((), generator=generator) - 0.5
    timesteps = ((level + shift) * NUM_TIMESTEPS / num_levels).round().long() - 1
    return torch.where(level < 1, -1, timesteps.clamp(0, NUM_TIMESTEPS - 1))


def _past(num_frames: int, generator: Generator) -> Tensor:
    timesteps = _uniform(num_frames, generator)
    timesteps[: _integer(1, num_frames, generator)] = -1
    return timesteps


def _ends(num_frames: int, generator: Generator) -> Tensor:
    timesteps = _uniform(num_frames, generator)
    timesteps[0] = timesteps[-1] = -1
    return timesteps


def _known(num_frames: int, generator: Generator) -> Tensor:
    timesteps = _uniform(num_frames, generator)
    places = torch.randperm(num_frames, generator=generator)
    timesteps[places[: _integer(1, num_frames, generator)]] = -1
    return timesteps
