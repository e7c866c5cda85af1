"""FIFO-Diffusion: endless video from a queue of frames at rising noise levels (Kim et al., 2024, arXiv 2405.11473).

This file holds the settings and the index arithmetic; loop.py holds the loop over tensors. Symbols are the
paper's: f frames a window, n partitions, T levels, h head frames of lookahead. One queue holds h finished frames and
then f n frames whose level rises from 1 to T. An iteration denoises every frame by one level, emits the cleanest and
enqueues noise.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, chain
from typing import Annotated, ClassVar, Literal

from longtake.errors import InputError
from longtake.model import PerFrameNoise, VideoModel, VideoSpec
from longtake.request import Request, num_branches
from longtake.sampler import Plan
from longtake.samplers.keyframes import Anchored, given_places
from longtake.samplers.planning import Batched, Pieces, latent_start, one_branch
from longtake.samplers.workload import LATENT_BYTES, RankWork, Workload, fetched
from longtake.typed import Setting

MOST_PARTITIONS = 10_000
Compat = Literal["off", "videocrafter2", "opensora"]


@dataclass(frozen=True)
class Window:
    """Frames `start` to `stop` go through the network together; only `keep_start` to `keep_stop` are written back."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    @property
    def kept(self) -> range:
        """Return the frames that are written back."""
        return range(self.keep_start, self.keep_stop)


def partition_windows(f: int, partitions: int, first: int = 0) -> list[Window]:
    """Return windows of f frames, end to end from `first`, that keep everything."""
    starts = [first + k * f for k in range(partitions)]
    return [Window(start, start + f, start, start + f) for start in starts]


def lookahead_windows(f: int, partitions: int) -> list[Window]:
    """Return two windows per partition that keep their noisier part only and read the cleaner part (FIFO-Diffusion,
    sec. 4.3).

    Windows begin at 0, h, f, f + h, ... with h = f // 2. The kept parts tile frames h to h + f * partitions, for odd f
    too.
    """
    h = f // 2
    windows = []
    for r in range(2 * partitions):
        start = (r // 2) * f + (r % 2) * h
        keep = f - h if r % 2 == 0 else h
        windows.append(Window(start, start + f, start + f - keep, start + f))
    return windows


def reach(windows: Sequence[Window], stop: int) -> int:
    """Return how many leading windows write a frame before `stop`; they come in order."""
    return bisect_left(windows, stop, key=lambda window: window.keep_start)


@dataclass(frozen=True, kw_only=True)
class FifoPlan(Plan):
    """The geometry of a queue, and which windows an iteration computes."""

    settings: "Fifo"
    windows: tuple[Window, ...]
    """Cleanest first; the kept parts tile the body of the queue."""
    head: int
    """Finished frames kept before the body, h."""
    body: int
    """Frames being denoised, f n."""
    latent_frames: int | None
    """Latent frames that the request needs."""

    @property
    def queue_length(self) -> int:
        """Return head and body together."""
        return self.head + self.body

    @property
    def warmup_frames(self) -> int:
        """Return how many frames are emitted before the video begins (copies of base frame 0)."""
        return self.body - self.spec.num_frames

    @property
    def iterations(self) -> int | None:
        """Return the number of iterations; None for an endless run."""
        if self.latent_frames is None:
            return None
        return -(-(self.latent_frames + self.warmup_frames) // self.settings.frames_per_level)

    def holds_from(self, frame: int) -> int:
        """Return from which frame on a prompt holds fully that begins at this one: where a window has one, that of its
        middle slot, it waits there for that slot."""
        f, timing = self.spec.num_frames, self.spec.timing
        if not frame or self.spec.prompts == "frame":
            return latent_start(frame, timing)
        return timing.pixel_frames(timing.latent_frames(frame) + f - 1 - f // 2)

    def level(self, slot: int) -> int:
        """Return the noise level of a slot of the queue; 0 in the head."""
        return max(0, (slot - self.head) // self.settings.frames_per_level + 1)

    def frame(self, iteration: int, slot: int) -> int:
        """Return which frame of the video a slot holds; negative for warm-up frames."""
        return iteration * self.settings.frames_per_level + slot - self.head - self.warmup_frames

    def computed(self, iteration: int) -> range:
        """Return the windows that an iteration computes, as indices.

        Near the end only those that can still reach an emitted frame (exact); with `short_warmup`, at the start only
        those that hold a frame of the video (approximate).
        """
        first = 0
        if self.settings.short_warmup:
            begin = -self.frame(iteration, 0)
            first = bisect_right(self.windows, begin, key=lambda window: window.keep_stop)
        if self.iterations is None:
            return range(first, len(self.windows))
        remaining = min(self.iterations - iteration, len(self.still_needed))
        return range(first, self.still_needed[remaining - 1] if remaining > 0 else 0)

    @cached_property
    def still_needed(self) -> list[int]:
        """Return how many leading windows matter when 1, 2, ... iterations are left, up to where all of them do."""
        k = self.settings.frames_per_level
        counts = [reach(self.windows, self.head + k)]
        while counts[-1] < len(self.windows):
            counts.append(reach(self.windows, self.windows[counts[-1] - 1].stop + k))
        return counts

    @property
    def short_iterations(self) -> int:
        """Return how many iterations at the start leave windows out: those in which no frame of the video is."""
        if not self.settings.short_warmup:
            return 0
        return -(-max(0, -self.frame(0, self.windows[0].keep_stop - 1)) // self.settings.frames_per_level)

    @property
    def unguided(self) -> int:
        """Return how many of the cleanest windows guidance leaves out."""
        limit = self.settings.guided_windows
        return 0 if limit is None else len(self.windows) - limit

    def guided(self, window: int) -> bool:
        """Return whether guidance is applied to a window."""
        return window >= self.unguided

    def evaluations(self, window: int) -> int:
        """Return the network evaluations that a window takes, twice as many where its frames belong to two experts."""
        slots = self.windows[window]
        lowest, highest = self.level(slots.start), self.level(slots.stop - 1)
        # Rounding must not move a level that lies where they meet.
        is_both = lowest < self.spec.experts_meet * self.num_levels - 1e-6 <= highest
        return (2 if is_both else 1) * (num_branches(self.guidance) if self.guided(window) else 1)

    @cached_property
    def evaluated(self) -> list[int]:
        """Return the evaluations of the first 0, 1, 2, ... windows of an iteration."""
        return [0, *accumulate(map(self.evaluations, range(len(self.windows))))]

    def shares(self, iteration: int, ranks: int) -> list[list[list[int]]]:
        """Return for every rank its batches of windows; the last ranks take what is over, since rank 0 decodes."""
        batches = list(self.batches(iteration))
        return [batches[ranks - 1 - rank :: ranks] for rank in range(ranks)]

    def slots(self, share: Iterable[Iterable[int]]) -> list[int]:
        """Return the slots of the queue that these batches of windows write."""
        return [slot for batch in share for index in batch for slot in self.windows[index].kept]

    def batches(self, iteration: int) -> Iterator[list[int]]:
        """Yield the windows of an iteration in the batches that go through the network together."""
        computed = self.computed(iteration)
        for is_guided in (True, False):
            chosen = [w for w in computed if self.guided(w) == is_guided]
            for start in range(0, len(chosen), self.window_batch):
                yield chosen[start : start + self.window_batch]


@dataclass(frozen=True, kw_only=True)
class Fifo(Batched, Anchored):
    """FIFO-Diffusion: endless video, memory that does not grow, no training (arXiv 2405.11473)."""

    name: ClassVar[str] = "fifo"
    requires: ClassVar[tuple[type[VideoModel], ...]] = (PerFrameNoise,)

    partitions: int = 1
    """Latent partitions n: more of them bring the levels inside a window closer together, at n times the cost."""
    lookahead: bool = True
    """Denoise only the noisier half of every window, with cleaner frames to look at: better, at twice the cost."""
    decode_batch: int = 8
    """Finished latent frames that are decoded together."""
    frames_per_level: int = 1
    """Neighbouring frames that share a level, k: T = f n / k steps and k frames an iteration. Above 1 is beyond the
    paper."""
    guided_windows: Annotated[int | None, Setting(metavar="INT", unset="all")] = None
    """Apply guidance only to this many of the noisiest windows. Beyond the paper."""
    plain_partitions: int = 0
    """Leave lookahead out of this many of the cleanest partitions. Beyond the paper."""
    short_warmup: bool = False
    """Do not denoise the copies of the first frame that fill the queue at the start. Beyond the paper."""
    compat: Compat = "off"
    """Reproduce the authors' code with its quirks: for VideoCrafter2, or for Open-Sora-Plan."""

    def plan(self, request: Request, spec: VideoSpec) -> FifoPlan:
        """Lay out the queue and count the work. Raises InputError for settings that do not fit together."""
        self._check(request, spec)
        f, n, k = spec.num_frames, self.partitions, self.frames_per_level
        if self.compat != "off" and spec.num_levels is None:
            raise InputError(f"compat needs a table of noise levels, which {spec.name}, a flow, has not; leave it out")
        anchored = given_places(self.keyframes, request, spec)
        plan = FifoPlan(
            request=request,
            spec=spec,
            settings=self,
            windows=tuple(self._windows(f)),
            head=f // 2 if self.lookahead else 0,
            body=f * n,
            num_levels=f * n // k,
            latent_frames=None if request.frames is None else spec.timing.latent_frames(request.frames),
            anchored=anchored,
            given=len(anchored) if request.init is not None else 0,
            window_batch=self.window_batch,
            held_frames=f * n + (f // 2 if self.lookahead else 0) + self.decode_batch + len(anchored),
            window_frames=f,
            forwards=None,
            forwards_per_frame=0.0,
            tasks=None,
            decoded=None,
        )
        if self.guided_windows is not None and num_branches(plan.guidance) == 1:
            raise one_branch("guided_windows", plan)
        return _counted(plan)

    def check_ranks(self, plan: Plan, ranks: int) -> None:
        """Raise InputError where there are more processes than windows in an iteration."""
        assert isinstance(plan, FifoPlan)
        useful = max(len(list(plan.batches(iteration))) for iteration in (0, self.partitions * plan.spec.num_frames))
        if ranks > useful:
            raise InputError(
                f"{ranks} processes have no more than {useful} windows to share; use fewer, more --sampler.partitions, "
                "or --split-guidance"
            )

    def _windows(self, f: int) -> list[Window]:
        if not self.lookahead:
            return partition_windows(f, self.partitions)
        plain = partition_windows(f, self.plain_partitions, first=f // 2)
        return plain + lookahead_windows(f, self.partitions)[2 * self.plain_partitions :]

    def _check(self, request: Request, spec: VideoSpec) -> None:
        f, k = spec.num_frames, self.frames_per_level
        if request.steps is not None:
            raise InputError(
                f"fifo fixes the number of steps, here {f * self.partitions // max(k, 1)} (window x partitions); "
                "leave --steps out, and change --sampler.partitions instead"
            )
        self.check_window_batch()
        for field in ("partitions", "decode_batch", "frames_per_level"):
            if getattr(self, field) < 1:
                raise InputError(f"{field} is {getattr(self, field)}; it must be 1 or more")
        if self.partitions > MOST_PARTITIONS:
            raise InputError(
                f"partitions is {self.partitions}, a queue of {f * self.partitions} frames; "
                f"use {MOST_PARTITIONS} at most, usually 1 to 8"
            )
        self.check_eta()
        if f % k or (self.lookahead and (f // 2) % k):
            raise InputError(f"frames_per_level {k} does not divide the window of {f} frames (or its half: lookahead)")
        self._check_beyond_the_paper(request)

    def _check_beyond_the_paper(self, request: Request) -> None:
        if self.plain_partitions and not (self.lookahead and 0 < self.plain_partitions < self.partitions):
            raise InputError("plain_partitions has an effect only with lookahead, and must be fewer than partitions")
        if self.guided_windows is not None and self.guided_windows < 1:
            raise InputError("guided_windows must be 1 or more; to switch guidance off use --guidance 1")
        beyond = self.frames_per_level > 1 or self.guided_windows or self.plain_partitions or self.short_warmup
        if self.compat != "off" and (beyond or self.keyframes is not None or request.init is not None):
            raise InputError(
                "compat reproduces the authors' code; leave frames_per_level, guided_windows, "
                "plain_partitions, short_warmup, keyframes and --init out"
            )
        num_windows = self.partitions * (2 if self.lookahead else 1) - self.plain_partitions
        if self.guided_windows is not None and self.guided_windows >= num_windows:
            raise InputError(f"guided_windows has an effect only below the number of windows, here {num_windows}")
        if self.short_warmup and self.partitions == 1:
            raise InputError("short_warmup has an effect only with 2 partitions or more: with 1 there is no warm-up")


def _counted(plan: FifoPlan) -> FifoPlan:
    """Return the plan with its counts filled in."""
    whole = plan.evaluated[-1]
    per_frame = whole / (plan.settings.frames_per_level * plan.spec.timing.stride)
    if plan.iterations is None:
        return replace(plan, forwards_per_frame=per_frame)
    # All windows in every iteration, but for some at either end; a video may have millions between them.
    begin = min(plan.short_iterations, plan.iterations)
    end = max(begin, plan.iterations - len(plan.still_needed))
    ends = [plan.computed(iteration) for iteration in chain(range(begin), range(end, plan.iterations))]
    return replace(
        plan,
        forwards=num_branches(plan.guidance) * plan.num_levels
        + sum(plan.evaluated[windows.stop] - plan.evaluated[windows.start] for windows in ends)
        + (end - begin) * whole,
        forwards_per_frame=per_frame,
        tasks=1 + sum(map(len, ends)) + (end - begin) * len(plan.windows),
        decoded=plan.latent_frames,
    )


def realtime() -> Fifo:
    """Return one window per frame and no lookahead: half the work of the default.

    Measured on two cores (AVX-512 bf16): 10.4 frames a second of `sprites`, the default 5.5.
    """
    return Fifo(partitions=1, lookahead=False)


def fifo_work(plan: Plan, ranks: int, width: int) -> Workload:
    """Return the work of a run; every iteration counts as a full one. The queue is float32, whatever `width`."""
    assert isinstance(plan, FifoPlan) and plan.iterations is not None
    # Without an end, an iteration after the warm-up computes all windows.
    shares = replace(plan, latent_frames=None).shares(plan.body, ranks)
    slots = [plan.slots(share) for share in shares]
    channels, _, height, breadth = plan.spec.latent_shape
    sent = fetched(slots, [[slot for share in slots for slot in share]] * ranks)
    return Workload(
        steps=plan.iterations,
        first=num_branches(plan.guidance) * plan.num_levels,
        ranks=tuple(
            RankWork(
                evaluations=float(sum(plan.evaluations(window) for batch in share for window in batch)),
                sent=sent[rank].sized(channels * height * breadth * LATENT_BYTES),
                held_frames=plan.held_frames,
                window_batch=max((len(batch) for batch in share), default=1),
                window_frames=plan.window_frames,
            )
            for rank, share in enumerate(shares)
        ),
    )


def queue_pieces(plan: Plan) -> Pieces:
    """Return the pieces of a queue, which near the end leaves out windows that no frame needs."""
    assert isinstance(plan, FifoPlan)
    k, timing = plan.settings.frames_per_level, plan.spec.timing
    piece, free, unit = -(-plan.settings.decode_batch // k) * k, None, plan.spec.decoder_piece
    # Latents wait for the rest of what the decoder takes together; its first piece has one more.
    first = piece if unit == 1 else 1 + (-(-(unit + 1) // piece) * piece - 1) // unit * unit
    if plan.iterations is not None:
        latents = (plan.iterations - len(plan.still_needed)) * k - plan.warmup_frames
        # Fewer frames have come than latents that went in, where a decoder holds some back: half of what it remembers.
        free = timing.pixel_frames(max(0, latents // piece * piece - (plan.spec.decoder_history + 1) // 2))
    return Pieces(
        first=timing.pixel_frames(first),
        later=-(-piece // unit) * unit * timing.stride,
        begun=(plan.body + plan.spec.decoder_held + unit - 1) * timing.stride,
        free=free,
        holds_from=plan.holds_from,
    )
