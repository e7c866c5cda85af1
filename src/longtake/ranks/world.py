"""The processes that share a run: a mesh of `clip` (who has which frames) times `cfg` (which half of guidance).

A process that is alone goes through the same code: every exchange then is a plain look-up in its own tensors. All
messages of the package are sent from this file, by torch.distributed (gloo between CPUs, NCCL between GPUs).
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, pairwise
from math import prod
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from longtake.errors import RanksError

Frames = Sequence[int]
"""Numbers of frames, by which the processes of a group agree on who sends what to whom."""


@dataclass
class Traffic:
    """What a process has sent, for benches and tests."""

    messages: int = 0
    """Sends, and collective calls."""
    bytes: int = 0
    """Bytes that left this process; a gather counts once for every other process."""
    seconds: float = 0.0
    """Time spent waiting."""

    def add(self, tensor: Tensor, copies: int = 1) -> None:
        """Count a message."""
        self.messages += 1
        self.bytes += tensor.numel() * tensor.element_size() * copies


@dataclass(frozen=True)
class Ask:
    """Frames that the processes of a group want of each other."""

    parts: Sequence[Tensor]
    """Tensors of one shape and type, whose `axis` runs over the frames held here."""
    axis: int
    held: Sequence[Frames]
    """Of every rank, the same everywhere, as is `wanted`."""
    wanted: Sequence[Frames]


@dataclass(frozen=True, kw_only=True)
class Group:
    """The processes along one dimension of the mesh."""

    rank: int = 0
    size: int = 1
    handle: dist.ProcessGroup | None = None
    """torch.distributed's own group; None when alone."""
    traffic: Traffic = field(default_factory=Traffic)

    def fetch(
        self, parts: Sequence[Tensor], axis: int, held: Sequence[Frames], wanted: Sequence[Frames]
    ) -> Callable[[], list[Tensor]]:
        """Ask for frames of `held[rank]`; the function returned waits and gives them, in the order of `wanted[rank]`,
        for every part. See Ask and `exchange`."""
        coming = self.exchange(Ask(parts, axis, held, wanted))
        return lambda: coming()[0]

    def exchange(self, *asks: Ask) -> Callable[[], list[list[Tensor]]]:
        """Ask for frames of several kinds, wider numbers first; the function returned waits and gives them, for every
        ask its parts, in the order wanted.

        One message per pair of processes carries everything; all are posted at once. Nothing travels between a process
        and itself, and nothing that is not wanted.
        """
        routes = [_route(self.rank, _frozen(ask.held), _frozen(ask.wanted)) for ask in asks]
        both = list(zip(asks, routes, strict=True))
        keep = [[_taken(part, ask.axis, route.keep) for part in ask.parts] for ask, route in both]
        operations, arriving, leaving = [], {}, []
        for peer in (peer for peer in range(self.size) if peer != self.rank):
            if sent := [_packed(ask, route.sends[peer]) for ask, route in both if peer in route.sends]:
                leaving.append(torch.cat(sent) if len(sent) > 1 else sent[0])
                self.traffic.add(leaving[-1])
                operations.append(dist.P2POp(dist.isend, leaving[-1], group=self.handle, group_peer=peer))
            if sizes := [_size(ask, route.receives[peer]) for ask, route in both if peer in route.receives]:
                arriving[peer] = torch.empty(sum(sizes), dtype=torch.uint8, device=asks[0].parts[0].device)
                operations.append(dist.P2POp(dist.irecv, arriving[peer], group=self.handle, group_peer=peer))
        with _reaching():
            works = dist.batch_isend_irecv(operations) if operations else []

        def finish() -> list[list[Tensor]]:
            self._wait(works)
            leaving.clear()
            unread, answers = dict(arriving), []
            for (ask, route), own in zip(both, keep, strict=True):
                found = [[part] for part in own]
                for peer, count in route.receives.items():
                    size = _size(ask, count)
                    for parts, part in zip(found, _unpacked(unread[peer][:size], ask, count), strict=True):
                        parts.append(part)
                    unread[peer] = unread[peer][size:]
                joined = [torch.cat(parts, ask.axis) if len(parts) > 1 else parts[0] for parts in found]
                answers.append([_taken(part, ask.axis, route.order) for part in joined])
            return answers

        return finish

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all processes, one shape everywhere, stacked in the order of ranks."""
        if self.size == 1:
            return tensor[None]
        gathered = tensor.new_empty((self.size, *tensor.shape))
        self.traffic.add(tensor, copies=self.size - 1)
        with _reaching():
            work = dist.all_gather(list(gathered), tensor.contiguous(), self.handle, async_op=True)
        self._wait([work])
        return gathered

    def moments(
        self, mean: Tensor, variance: Tensor, counts: Sequence[int], *others: Ask
    ) -> tuple[Tensor, Tensor, list[list[Tensor]]]:
        """Return mean and population variance over the rows of all processes, in float64, and the answers to others,
        which travel in the same messages.

        Given are those of every row here, rows first, each over as many values; `counts` says how many rows every rank
        has. Combined as Chan, Golub and LeVeque (1979) do, row by row in the order of ranks: the result does not depend
        on which rank has which of the rows, to the last bit.
        """
        edges = [0, *accumulate(counts)]
        shares = [range(start, stop) for start, stop in pairwise(edges)]
        rows = Ask([torch.stack([mean, variance], dim=1)], 0, shares, [range(edges[-1])] * self.size)
        ((together,), *answers) = self.exchange(rows, *others)()
        means, variances = together.double().unbind(1)
        joint = means.mean(0)
        return joint, (variances + (means - joint) ** 2).mean(0), answers

    def share(self, tensors: Mapping[str, Tensor] | None, device: torch.device) -> dict[str, Tensor] | None:
        """Return what rank 0 gives, None included, on `device`, on every process."""
        if self.size == 1:
            return None if tensors is None else dict(tensors)
        head = None if tensors is None else [[name, str(t.dtype), list(t.shape)] for name, t in tensors.items()]
        rows = self.say(head)[0]
        if rows is None:
            return None
        shared: dict[str, Tensor] = {}
        for name, kind, shape in rows:
            dtype = getattr(torch, kind.removeprefix("torch."))
            here = tensors[name].to(device).contiguous() if tensors else torch.empty(shape, dtype=dtype, device=device)
            with _reaching():
                work = dist.broadcast(here, group=self.handle, group_src=0, async_op=True)
            self._wait([work])
            shared[name] = here
        return shared

    def say(self, value: Any) -> list[Any]:
        """Return the values of all processes, as JSON has them, in the order of ranks."""
        if self.size == 1:
            return [value]
        device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend(self.handle) == "nccl" else "cpu"
        told = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8, device=device)
        lengths = self.gather(torch.tensor(len(told), device=device)).tolist()
        padded = torch.cat([told, told.new_zeros(max(lengths) - len(told))])
        return [
            json.loads(bytes(row[:length].tolist())) for row, length in zip(self.gather(padded), lengths, strict=True)
        ]

    def _wait(self, works: Sequence[Any]) -> None:
        start = time.perf_counter()
        with _reaching():
            for work in works:
                work.wait()
        self.traffic.seconds += time.perf_counter() - start


@dataclass(frozen=True, kw_only=True)
class World:
    """Who takes part: `rank` of `size` processes; only rank 0 writes."""

    rank: int = 0
    size: int = 1
    clip: Group = field(default_factory=Group)
    """Processes that share the frames of a video: its clips, its windows."""
    cfg: Group = field(default_factory=Group)
    """Processes that share the two branches of guidance; 1 or 2."""
    all: Group = field(default_factory=Group)
    """Every process."""


ALONE = World()


@contextmanager
def _reaching() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise RanksError(
            "another process of this job has ended or cannot be reached; see its own message, then give the same "
            "command, which continues the run"
        ) from error


Places = slice | tuple[int, ...]
"""Where frames lie along an axis; a slice gives a view."""


@dataclass(frozen=True)
class _Route:
    """What a rank keeps and sends, how much comes from whom, and how it all is brought into order."""

    keep: Places
    sends: dict[int, Places]
    receives: dict[int, int]
    order: Places


@lru_cache(maxsize=256)
def _route(rank: int, held: tuple[Frames, ...], wanted: tuple[Frames, ...]) -> _Route:
    mine = {frame: place for place, frame in enumerate(held[rank])}
    owner = {frame: peer for peer, frames in enumerate(held) for frame in frames}
    own = [frame for frame in wanted[rank] if frame in mine]
    sends, receives, arriving = {}, {}, []
    for peer in (peer for peer in range(len(held)) if peer != rank):
        if leaving := [mine[frame] for frame in wanted[peer] if owner[frame] == rank]:
            sends[peer] = _places(leaving)
        if coming := [frame for frame in wanted[rank] if owner[frame] == peer]:
            receives[peer] = len(coming)
            arriving += coming
    place = {frame: i for i, frame in enumerate([*own, *arriving])}
    return _Route(_places([mine[frame] for frame in own]), sends, receives, _places([place[f] for f in wanted[rank]]))


def _shape(ask: Ask, count: int) -> list[int]:
    """Return the shape of so many frames of all parts together."""
    shape = [len(ask.parts), *ask.parts[0].shape]
    shape[1 + ask.axis] = count
    return shape


def _size(ask: Ask, count: int) -> int:
    """Return the bytes of so many frames of all parts."""
    return prod(_shape(ask, count)) * ask.parts[0].element_size()


def _packed(ask: Ask, places: Places) -> Tensor:
    """Return frames of all parts as bytes."""
    return torch.stack([_taken(part, ask.axis, places) for part in ask.parts]).flatten().view(torch.uint8)


def _unpacked(packed: Tensor, ask: Ask, count: int) -> Sequence[Tensor]:
    return packed.view(ask.parts[0].dtype).view(_shape(ask, count)).unbind()


def _frozen(frames: Sequence[Frames]) -> tuple[Frames, ...]:
    return tuple(each if isinstance(each, range) else tuple(each) for each in frames)


def _places(places: list[int]) -> Places:
    start = places[0] if places else 0
    is_run = places == list(range(start, start + len(places)))
    return slice(start, start + len(places)) if is_run else tuple(places)


def _taken(tensor: Tensor, axis: int, places: Places) -> Tensor:
    if isinstance(places, slice):
        return tensor.narrow(axis, places.start, places.stop - places.start)
    return tensor.index_select(axis, torch.tensor(places, dtype=torch.long, device=tensor.device))
