"""Context windows: every step of the whole video is taken in windows that overlap, and what they say of a frame is
averaged (Gen-L-Video: Wang et al., 2023, arXiv 2305.18264; of pictures, MultiDiffusion: Bar-Tal et al., 2023, arXiv
2302.08113).

The settings have the names and the meaning that they have in ComfyUI. This is no way to run `chunked`, which finishes
a window before it begins the next and so needs the memory of one: here all frames stay noisy together. This file holds
the settings and the index arithmetic; loop.py holds the loop over tensors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from longtake.errors import CapabilityError, InputError
from longtake.model import VideoModel, VideoSpec
from longtake.request import Request, num_branches
from longtake.sampler import Plan
from longtake.samplers.clips import sliding_windows, window_weights
from longtake.samplers.planning import Batched, Joint, chosen_steps, chosen_window, no_adapter, windows_of

ContextSchedule = Literal["standard_static", "standard_uniform", "looped_uniform", "batched"]
FuseMethod = Literal["pyramid", "relative", "flat", "overlap-linear"]
Window = tuple[int, ...]
"""Latent frames that go through the network together, in this order."""

MOST_STEPS = 10_000
LEAST = 0.01
"""What a window counts at least in its outer frames, by `relative`."""


@dataclass(frozen=True, kw_only=True)
class ContextWindowsPlan(Plan):
    """The windows of every step."""

    settings: "ContextWindows"
    latent_frames: int
    """Of the video, or of a window where that is longer."""
    window: int
    """Latent frames in one."""
    overlap: int
    """Latent frames that neighbouring windows share."""

    @property
    def is_static(self) -> bool:
        """Return whether the windows of all steps are the same."""
        return self.settings.context_schedule in ("standard_static", "batched")

    def windows(self, step: int) -> list[Window]:
        """Return the windows of a step, counted from 0; each frame is in one at least."""
        total, length, schedule = self.latent_frames, self.window, self.settings.context_schedule
        if self.is_static or total == length:
            return [tuple(each) for each in sliding_windows(total, length, length - self.overlap)]
        looped = list(self._looped(step))
        if schedule == "standard_uniform":
            looped = [each for window in looped for each in _straight(window, total)]
        return list(dict.fromkeys(looped))

    def _looped(self, step: int) -> Sequence[Window]:
        """Return windows that go round the video, from a start that moves with the step; of frames side by side, then
        of every second frame, every fourth ..., while a window is no longer than the video."""
        total, windows = self.latent_frames, []
        end = total if self.settings.closed_loop else total - self.overlap
        for power in range(self.settings.context_stride):
            apart, shift = 2**power, mirrored(step)
            reach = self.window * apart
            if reach > total:
                break
            start = round(total * shift) + int(shift * apart)
            for first in range(start, start + end, reach - self.overlap):
                windows.append(tuple((first + place * apart) % total for place in range(self.window)))
        return windows

    def counts(self) -> list[int]:
        """Return the number of windows of every step."""
        if self.is_static:
            return [len(self.windows(0))] * self.num_levels
        return [len(self.windows(step)) for step in range(self.num_levels)]

    def weights(self, windows: Sequence[Window]) -> list[list[float]]:
        """Return how much each of the windows of a step counts in its frames."""
        if self.settings.context_schedule == "batched":
            left = self.latent_frames % self.window
            whole = [1.0] * self.window
            last = [0.0] * (self.window - left) + [1.0] * left if left else whole
            return [*[whole] * (len(windows) - 1), last]
        return [fuse_weights(self.settings.fuse_method, each, self.overlap, self.latent_frames) for each in windows]

    def seams(self, frames: int) -> Sequence[int]:
        """Return the numbers of the frames where a window of the first step begins."""
        starts = sorted({self.spec.timing.pixel_frames(window[0]) for window in self.windows(0)})
        return [start for start in starts if 0 < start < frames]


@dataclass(frozen=True, kw_only=True)
class ContextWindows(Batched, Joint):
    """Context windows: every step in windows that overlap, averaged, as ComfyUI calls it (arXiv 2305.18264)."""

    name: ClassVar[str] = "context-windows"
    requires: ClassVar[tuple[type[VideoModel], ...]] = ()

    context_length: int | None = None
    """Latent frames in a window; by default as many as the model's own."""
    context_overlap: int | None = None
    """Latent frames that neighbouring windows share; by default a quarter of a window."""
    context_stride: int = 1
    """Of uniform schedules: 2 adds windows of every second frame, 3 also of every fourth ..."""
    context_schedule: ContextSchedule = "standard_static"
    """Where windows begin: every step at the same frames; every step elsewhere, within the video or going round its
    end; or one after the other without overlap."""
    closed_loop: bool = False
    """Of looped_uniform: let the last frames and the first share as many as neighbours do, so that the video loops;
    longer than a window, and with a decoder that takes every frame by itself."""
    fuse_method: FuseMethod = "pyramid"
    """How much a window counts in each of its frames: most in its middle (two ways), everywhere as much, or less only
    where it overlaps."""
    freenoise: bool = False
    """Begin with the first window's noise, shuffled again and again, as sampler freenoise does."""

    def plan(self, request: Request, spec: VideoSpec) -> ContextWindowsPlan:
        """Lay out the windows and count the work. Raises InputError for settings that do not fit together."""
        self._check(request, spec)
        assert request.frames is not None
        window = chosen_window(self.context_length, spec)
        total = max(window, spec.timing.latent_frames(request.frames))
        if self.closed_loop:
            _check_loop(total, window, spec)
        plan = ContextWindowsPlan(
            request=request,
            spec=spec,
            settings=self,
            latent_frames=total,
            window=window,
            overlap=self._overlap(window),
            num_levels=chosen_steps(request, spec),
            forwards=None,
            forwards_per_frame=0.0,
            tasks=None,
            decoded=spec.timing.latent_frames(request.frames),
            window_batch=self.window_batch,
            held_frames=total,
            window_frames=window,
        )
        counts = plan.counts()
        forwards = windows_of(sum(counts) * num_branches(plan.guidance), window, spec)
        return replace(
            plan,
            forwards=forwards,
            forwards_per_frame=forwards / request.frames,
            tasks=max(counts),
            window_batch=min(self.window_batch, max(counts)),
        )

    def check_ranks(self, plan: Plan, ranks: int) -> None:
        """Raise InputError where there are more processes than windows."""
        assert isinstance(plan, ContextWindowsPlan)
        if ranks > (least := min(plan.counts())):
            raise InputError(f"{ranks} processes cannot share the {least} windows of a step; take fewer")

    def _overlap(self, window: int) -> int:
        if self.context_schedule == "batched":
            return 0
        overlap = window // 4 if self.context_overlap is None else self.context_overlap
        if not 0 <= overlap < window:
            raise InputError(
                f"context_overlap is {overlap}; it must be 0 to {window - 1}: a window has {window} frames"
            )
        return overlap

    def _check(self, request: Request, spec: VideoSpec) -> None:
        if spec.call is not None:
            raise no_adapter(self.name, "x0 in every step", spec)
        if len(spec.latent_shape) != 4:
            raise CapabilityError(f"context-windows needs latents with frames, which {spec.name} has not; use chunked")
        self.check_joint(request, spec)
        if (request.steps or 0) > MOST_STEPS:
            raise InputError(f"{request.steps} steps are too many to lay out windows for; ask for {MOST_STEPS} at most")
        self.check_window_batch()
        if self.context_stride < 1:
            raise InputError(f"context_stride is {self.context_stride}; it must be 1 or more")
        schedule = self.context_schedule
        unused = {
            "context_stride": self.context_stride > 1 and not schedule.endswith("uniform"),
            "closed_loop": self.closed_loop and schedule != "looped_uniform",
            "context_overlap": self.context_overlap is not None and schedule == "batched",
            "fuse_method": self.fuse_method != "pyramid" and schedule == "batched",
        }
        for field in (field for field, is_unused in unused.items() if is_unused):
            raise InputError(f"{field} has no effect with the context_schedule {schedule}; leave it out")


def loop() -> ContextWindows:
    """Return windows that go round the end as they go over every other frame, so that the end joins the start."""
    return ContextWindows(context_schedule="looped_uniform", closed_loop=True, freenoise=True)


def _check_loop(total: int, window: int, spec: VideoSpec) -> None:
    if not spec.decodes_apart:
        raise CapabilityError(
            f"closed_loop needs a decoder that takes every frame by itself; that of {spec.name} begins anew at the "
            "first frame, which would not join the last: leave it out"
        )
    if total <= window:
        raise InputError(
            f"closed_loop needs more frames than one window, which has {window}; give more, or a smaller context_length"
        )


def mirrored(step: int) -> float:
    """Return 0, 1/2, 1/4, 3/4, 1/8 ...: the binary digits of a number mirrored at the point (van der Corput, 1935)."""
    value, weight = 0.0, 0.5
    while step:
        step, digit = divmod(step, 2)
        value, weight = value + weight * digit, weight / 2
    return value


def fuse_weights(method: FuseMethod, window: Window, overlap: int, total: int) -> list[float]:
    """Return how much a window counts in each of its frames."""
    length = len(window)
    match method:
        case "flat" | "pyramid":
            return window_weights(length, method)
        case "relative":
            middle = (length - 1) / 2
            return [max(LEAST, 1 - abs(place - middle) / (middle + LEAST / 2)) for place in range(length)]
        case "overlap-linear":
            # Nothing comes before the first frame of the video, and nothing after its last.
            before = overlap if window[0] != 0 else 0
            after = overlap if window[-1] != total - 1 else 0
            rising = [min(1.0, (place + 1) / (before + 1)) for place in range(length)]
            falling = [min(1.0, (length - place) / (after + 1)) for place in range(length)]
            return [min(pair) for pair in zip(rising, falling, strict=True)]


def _straight(window: Window, total: int) -> list[Window]:
    """Return a window that goes round the end of the video as two: one that ends there, and one that begins it."""
    if list(window) == sorted(window):
        return [window]
    apart, reach = (window[1] - window[0]) % total, len(window) - 1
    last = total - 1 - reach * apart
    return [tuple(range(start, start + reach * apart + 1, apart)) for start in (last, 0)]
