"""Clip by clip, each made in view of the one before, with every model that goes on from known frames.

PVDM's way to a long video (Yu et al., CVPR 2023, arXiv 2302.07685, section 3.3). This file holds the settings and the
index arithmetic; loop.py holds the loop over tensors. A model whose latents have an axis of frames sees
the last frames of the video in its window and fills the rest of it; one without, such as PVDM itself, sees the whole
clip before and makes a whole clip.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from longtake.errors import InputError
from longtake.model import Continuation, VideoModel, VideoSpec
from longtake.request import Request, num_branches
from longtake.sampler import Plan
from longtake.samplers.planning import Stochastic

Solver = Literal["ddim", "ddpm", "dpmpp"]

DEFAULT_STEPS: dict[Solver, int] = {"ddim": 30, "ddpm": 1000, "dpmpp": 20}


@dataclass(frozen=True, kw_only=True)
class AutoregressivePlan(Plan):
    """Which frames of the video each clip brings."""

    settings: "Autoregressive"
    first_steps: int
    later_steps: int
    context: int
    """Latent frames of the video that every clip but the first has in its window; 0 without an axis of frames."""
    clips: int | None
    """None for an endless run."""

    def frames(self, clip: int) -> range:
        """Return the latent frames of the video that a clip brings."""
        start = clip * (self.spec.num_frames - self.context) + (self.context if clip else 0)
        return range(start, start + self.spec.num_frames - (self.context if clip else 0))

    def seams(self, frames: int) -> Sequence[int]:
        """Return the numbers, among so many frames that come out, of the first one of every clip but the first."""
        new = (self.spec.num_frames - self.context) * self.spec.timing.stride
        return range(self.spec.timing.pixel_frames(self.spec.num_frames), frames, new)

    def steps(self, clip: int) -> int:
        """Return the denoising steps of a clip."""
        return self.later_steps if clip else self.first_steps


@dataclass(frozen=True, kw_only=True)
class Autoregressive(Stochastic):
    """PVDM's long video: clip by clip, each in view of the one before."""

    name: ClassVar[str] = "autoregressive"
    requires: ClassVar[tuple[type[VideoModel], ...]] = (Continuation,)

    context: int | None = None
    """Latent frames at the end of the video that a clip is shown, in place of as many new ones; half a window if not
    given. A model whose latents have no axis of frames (PVDM) is shown the whole clip before."""
    solver: Solver = "ddim"
    """ddim; ddpm, the same as ddim with eta 1 unless clean latents have bounds (PVDM); or dpmpp, which is DPM-Solver++
    of second order, for few steps."""
    first_steps: int | None = None
    """Steps of the first clip; as many as of the others if not given. The paper's 100/20 is 100 here and 20 steps."""

    def plan(self, request: Request, spec: VideoSpec) -> AutoregressivePlan:
        """Lay out the clips and count the work. Raises InputError for settings that do not fit the model."""
        self._check()
        size, context = spec.num_frames, self._context(spec)
        new = size - context
        clips = None
        if request.frames is not None:
            clips = 1 + max(0, -(-(spec.timing.latent_frames(request.frames) - size) // new))
        later_steps = DEFAULT_STEPS[self.solver] if request.steps is None else request.steps
        plan = AutoregressivePlan(
            request=request,
            spec=spec,
            settings=self,
            first_steps=later_steps if self.first_steps is None else self.first_steps,
            later_steps=later_steps,
            context=context,
            clips=clips,
            forwards=None,
            forwards_per_frame=0.0,
            tasks=clips,
            decoded=None if clips is None else context + clips * new,
            window_batch=1,
            held_frames=size + (context or size),
            window_frames=size,
        )
        branches = num_branches(plan.guidance)
        forwards = None if clips is None else branches * (plan.first_steps + (clips - 1) * later_steps)
        per_frame = branches * later_steps / (new * spec.timing.stride)
        return replace(plan, forwards=forwards, forwards_per_frame=per_frame)

    def check_ranks(self, plan: Plan, ranks: int) -> None:
        """Raise InputError for more processes than one: each clip waits for the one before."""
        if ranks > 1:
            raise InputError(
                f"{ranks} processes cannot share clips of which each waits for the one before; let 2 processes share "
                "the two branches of guidance, or use another sampler"
            )

    def _check(self) -> None:
        self.check_eta()
        if self.eta and self.solver != "ddim":
            raise InputError(f"eta has no effect on the solver {self.solver}; leave it out, or use ddim")
        if self.first_steps is not None and self.first_steps < 1:
            raise InputError(f"{self.first_steps} first steps cannot denoise anything; ask for 1 or more")

    def _context(self, spec: VideoSpec) -> int:
        if len(spec.latent_shape) != 4:
            if self.context is not None:
                raise InputError(f"context has no effect on {spec.name}, which is shown whole clips; leave it out")
            return 0
        context = spec.num_frames // 2 if self.context is None else self.context
        if not 1 <= context < spec.num_frames:
            raise InputError(
                f"context is {context}; it must be 1 to {spec.num_frames - 1}: a window has {spec.num_frames} latent "
                "frames, and one of them has to be new"
            )
        return context
