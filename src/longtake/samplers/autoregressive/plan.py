"""Clip by clip, each made in view of the one before, with every model that goes on from known frames.

PVDM's way to a long video (Yu et al., CVPR 2023, arXiv 2302.07685, section 3.3). This file holds the settings and the
index arithmetic; loop.py holds the loop over tensors. A model whose latents have an axis of frames sees
the last frames of the video in its window and fills the rest of it; one without, such as PVDM itself, sees the whole
clip before and makes a whole clip. Where it goes on from pixels, every clip is decoded by itself from the frames that
it shares with the one before, which come out once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from longtake.errors import InputError
from longtake.model import Continuation, VideoModel, VideoSpec
from longtake.request import Request, num_branches
from longtake.sampler import Plan
from longtake.samplers.keyframes import init_pixels
from longtake.samplers.planning import Pieces, Stochastic, chosen_steps, latent_start

if TYPE_CHECKING:
    from longtake.schedule import Clip

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

    @property
    def clip(self) -> "Clip | None":
        """Return how x0 is bounded in a step of DDIM; None, too, for the other solvers, which have a way of their
        own."""
        return super().clip if self.settings.solver == "ddim" else None

    @property
    def first_is_given(self) -> bool:
        """Return whether what is given stands in place of clip 0: where clips are shown whole ones."""
        return self.given > 0 and not self.context

    @property
    def shown_pixels(self) -> int:
        """Return how many frames at the end of the video every clip but the first is shown; 0 where it is shown
        latents."""
        return self.spec.timing.pixel_frames(self.context) if self.spec.known == "pixel" else 0

    def frames(self, clip: int) -> range:
        """Return the latent frames of the video that a clip brings; what is given at its start is brought by nobody."""
        start = clip * (self.spec.num_frames - self.context)
        known = self.context if clip else self.spec.timing.latent_frames(self.given) if self.given else 0
        return range(start + known, start + self.spec.num_frames)

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
    """Latent frames at the end of the video that a clip is shown, in place of as many new ones; as many as the network
    was trained to go on from, or half a window, if not given. A model whose latents have no axis of frames (PVDM) is
    shown the whole clip before."""
    solver: Solver = "ddim"
    """ddim; ddpm, the same as ddim with eta 1 unless clean latents have bounds (PVDM); or dpmpp, which is DPM-Solver++
    of second order, for few steps."""
    first_steps: int | None = None
    """Steps of the first clip; as many as of the others if not given. The paper's 100/20 is 100 here and 20 steps."""

    def plan(self, request: Request, spec: VideoSpec) -> AutoregressivePlan:
        """Lay out the clips and count the work. Raises InputError for settings that do not fit the model."""
        self._check()
        size, context = spec.num_frames, self._context(spec)
        new, given = size - context, self._given(request, spec, context)
        clips = None
        if request.frames is not None:
            clips = 1 + max(0, -(-(spec.timing.latent_frames(request.frames) - size) // new))
        later_steps = chosen_steps(request, spec, DEFAULT_STEPS[self.solver])
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
            decoded=None if clips is None else (clips * size if spec.known == "pixel" else context + clips * new),
            window_batch=1,
            held_frames=size + (context or size),
            window_frames=size,
            num_levels=max(later_steps, self.first_steps or 0),
            given=given,
            warnings=_warnings(spec, context),
        )
        branches = num_branches(plan.guidance)
        first_steps = 0 if plan.first_is_given else plan.first_steps
        forwards = None if clips is None else branches * (first_steps + (clips - 1) * later_steps)
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

    def _given(self, request: Request, spec: VideoSpec, context: int) -> int:
        """Return how many frames the video begins with: those of a whole clip, or as many as decode from latents."""
        if request.init is None:
            if spec.needs_pictures:
                raise InputError(f"{spec.name} was always shown a first picture in training; give one with --init")
            return 0
        timing = spec.timing
        found = len(init_pixels(request, spec, timing.pixel_frames(context) if context else spec.num_frames))
        if context:
            return timing.pixel_frames(1 + (found - 1) // timing.stride)
        if found < spec.num_frames:
            raise InputError(
                f"{spec.name} goes on from a clip of {spec.num_frames} frames, and {request.init} has {found}; "
                "give a longer video"
            )
        if self.first_steps is not None:
            raise InputError("first_steps has no effect beside --init, which is the first clip; leave it out")
        return found

    def _context(self, spec: VideoSpec) -> int:
        if len(spec.latent_shape) != 4:
            if self.context is not None:
                raise InputError(f"context has no effect on {spec.name}, which is shown whole clips; leave it out")
            return 0
        context = spec.continues_from or spec.num_frames // 2 if self.context is None else self.context
        if not 1 <= context < spec.num_frames:
            raise InputError(
                f"context is {context}; it must be 1 to {spec.num_frames - 1}: a window has {spec.num_frames} latent "
                "frames, and one of them has to be new"
            )
        return context


def _warnings(spec: VideoSpec, context: int) -> tuple[str, ...]:
    if spec.continues_from in (None, context):
        return ()
    return (
        f"{spec.name} has learned to go on from {spec.continues_from} latent frames, and is shown {context} here: what "
        "follows may not fit them; leave context out",
    )


def clip_pieces(plan: Plan) -> Pieces:
    """Return the pieces of a video in clips."""
    assert isinstance(plan, AutoregressivePlan)
    spec, frames = plan.spec, plan.request.frames
    return Pieces(
        first=spec.timing.pixel_frames(spec.num_frames),
        later=(spec.num_frames - plan.context) * spec.timing.stride,
        begun=0,
        free=None if frames is None else frames - 1,
        holds_from=lambda frame: latent_start(frame, spec.timing),
    )
