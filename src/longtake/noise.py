"""Noise as a function of what it is for, so that there is no generator state to save or to share out.

A draw is named by a seed, a stream and a key: `("enqueue", frame)`, `("step", frame, level)`. The same name gives the
same numbers in any order, on any rank, before and after a resume. The stream name keeps a re-noised frame from meeting
the noise it was made from.
"""

import hashlib
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Noise(Protocol):
    """Standard normal draws by name; tests put a recorded tape in its place."""

    def __call__(self, shape: tuple[int, ...], stream: str, *key: int) -> Tensor:
        """Return float32 (or the tape's dtype) draws of `shape` on the CPU."""
        ...


def seeded_noise(seed: int) -> Callable[..., Tensor]:
    """Return the `Noise` of a seed."""

    def noise(shape: tuple[int, ...], stream: str, *key: int) -> Tensor:
        name = ",".join([str(seed), stream, *map(str, key)])
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little", signed=True))
        return torch.randn(shape, generator=generator)

    return noise
