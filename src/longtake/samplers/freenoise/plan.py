"""FreeNoise: a long video of one window's noise, seen through sliding windows (Qiu et al., 2023, arXiv 2310.15169).

This file holds the settings and the index arithmetic; loop.py holds the loop over tensors, and what happens in the
network. All frames go through the network together, so memory grows with the length of the video.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from longtake.errors import InputError
from longtake.model import TemporalHooks, VideoModel, VideoSpec
from longtake.request import Request, num_branches
from longtake.sampler import Plan
from longtake.samplers.clips import NoiseType, Weighting, sliding_windows, window_weights
from longtake.samplers.planning import Joint, check_one_prompt, chosen_steps, chosen_window, windows_of


@dataclass(frozen=True, kw_only=True)
class FreeNoisePlan(Plan):
    """The windows in which frames attend."""

    settings: "FreeNoise"
    latent_frames: int
    """Of the video."""
    window: int
    """Latent frames that attend to each other."""
    stride: int
    """Latent frames from the start of a window to the start of the next."""

    @property
    def windows(self) -> tuple[range, ...]:
        """Return the latent frames of every window; the last one ends where the video does."""
        return sliding_windows(self.latent_frames, self.window, self.stride)

    @property
    def weights(self) -> list[list[float]]:
        """Return how much a window counts in each of its frames. A last one that is nearer to the one before than the
        others are, counts where no other is."""
        whole = window_weights(self.window, self.settings.weighting_scheme)
        weights = [whole] * len(self.windows)
        left = (self.latent_frames - self.window) % self.stride
        return [*weights[:-1], [0.0] * (self.window - left) + whole[-left:]] if left else weights

    def seams(self, frames: int) -> Sequence[int]:
        """Return the numbers of the frames where a later window begins."""
        starts = [self.spec.timing.pixel_frames(window.start) for window in self.windows[1:]]
        return [start for start in starts if start < frames]


@dataclass(frozen=True, kw_only=True)
class FreeNoise(Joint):
    """FreeNoise: all frames at once, of one window's noise, which attend in sliding windows (arXiv 2310.15169)."""

    name: ClassVar[str] = "freenoise"
    requires: ClassVar[tuple[type[VideoModel], ...]] = (TemporalHooks,)

    context_length: int | None = None
    """Latent frames that attend to each other, a window; by default as many as the model's own."""
    context_stride: int | None = None
    """Latent frames from the start of a window to the start of the next; by default a quarter of a window, as the
    paper's 4 of 16."""
    weighting_scheme: Weighting = "pyramid"
    """How much a window counts in each of its frames: most in its middle, everywhere as much, or from its middle on."""
    noise_type: NoiseType = "shuffle_context"
    """Noise after the first window: that of the first in another order, in the same order, or new noise."""

    def plan(self, request: Request, spec: VideoSpec) -> FreeNoisePlan:
        """Lay out the windows and count the work. Raises InputError for settings that do not fit together."""
        self.check_joint(request, spec)
        check_one_prompt(self.name, request, spec)
        assert request.frames is not None
        total = spec.timing.latent_frames(request.frames)
        window = min(total, chosen_window(self.context_length, spec))
        stride = max(1, window // 4) if self.context_stride is None else self.context_stride
        if stride < 1 or (stride > window and total > window):
            raise InputError(
                f"context_stride is {stride}; it must be 1 to {window}, the frames of a window, or some are in none"
            )
        steps = chosen_steps(request, spec)
        plan = FreeNoisePlan(
            request=request,
            spec=spec,
            settings=self,
            latent_frames=total,
            window=window,
            stride=stride,
            num_levels=steps,
            forwards=None,
            forwards_per_frame=0.0,
            tasks=None,
            decoded=total,
            window_batch=1,
            held_frames=total,
            window_frames=total,
        )
        forwards = windows_of(steps * num_branches(plan.guidance), total, spec)
        return replace(plan, forwards=forwards, forwards_per_frame=forwards / request.frames, tasks=len(plan.windows))

    def check_ranks(self, plan: Plan, ranks: int) -> None:
        """Raise InputError where there are more processes than frames."""
        assert isinstance(plan, FreeNoisePlan)
        if ranks > plan.latent_frames:
            raise InputError(f"{ranks} processes cannot share {plan.latent_frames} latent frames; take fewer")
