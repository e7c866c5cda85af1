"""What a process computes, sends and holds in one step, counted by index arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass

LATENT_BYTES = 4
"""Of a number: latents are kept and sent in float32 whatever the network computes in."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """Messages and bytes of one process in some exchanges."""

    messages: int = 0
    bytes: int = 0
    received_messages: int = 0
    received_bytes: int = 0

    def __add__(self, other: "Sent") -> "Sent":
        """Return both together."""
        return Sent(
            messages=self.messages + other.messages,
            bytes=self.bytes + other.bytes,
            received_messages=self.received_messages + other.received_messages,
            received_bytes=self.received_bytes + other.received_bytes,
        )

    def __mul__(self, times: int) -> "Sent":
        """Return the same exchanges so many times."""
        return Sent(
            messages=self.messages * times,
            bytes=self.bytes * times,
            received_messages=self.received_messages * times,
            received_bytes=self.received_bytes * times,
        )

    def sized(self, frame_bytes: int) -> "Sent":
        """Return the same messages, whose bytes were counted in frames so far, in bytes."""
        return Sent(
            messages=self.messages,
            bytes=self.bytes * frame_bytes,
            received_messages=self.received_messages,
            received_bytes=self.received_bytes * frame_bytes,
        )


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a process has in memory at any time."""

    held_frames: int
    """Latent frames of the video."""
    window_batch: int
    """Windows in a call of its network."""
    window_frames: int
    """Latent frames in one of them."""


@dataclass(frozen=True, kw_only=True)
class RankWork(Load):
    """One step of one process."""

    evaluations: float
    """Network evaluations of a window of the model's own length."""
    sent: Sent


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A video on several processes."""

    steps: int
    """Denoising steps of a clip method, iterations of a queue."""
    first: int
    """Network evaluations that come before the steps, and are not shared out."""
    ranks: tuple[RankWork, ...]
    """A full step of every process."""


def fetched(held: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]]) -> list[Sent]:
    """Return what every process sends in one `Group.fetch`, with frames in place of bytes: a message to each process
    that wants some of its frames."""
    owner = {frame: rank for rank, frames in enumerate(held) for frame in frames}
    counts: dict[tuple[int, int], int] = {}
    for rank, frames in enumerate(wanted):
        for frame in frames:
            if owner[frame] != rank:
                counts[owner[frame], rank] = counts.get((owner[frame], rank), 0) + 1
    sums = [Sent() for _ in held]
    for (source, target), count in counts.items():
        sums[source] += Sent(messages=1, bytes=count)
        sums[target] += Sent(received_messages=1, received_bytes=count)
    return sums


def gathered(size: int, ranks: int) -> Sent:
    """Return what every process sends in one `Group.gather` of `size` bytes each: one call, as many hops as peers."""
    if ranks == 1:
        return Sent()
    bytes = size * (ranks - 1)
    return Sent(messages=1, bytes=bytes, received_messages=ranks - 1, received_bytes=bytes)
