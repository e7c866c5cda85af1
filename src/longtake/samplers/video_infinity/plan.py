"""Video-Infinity: one long video, denoised as a whole and shared out as clips (Tan et al., 2024, arXiv 2406.16260).

This file holds the settings and the index arithmetic; loop.py holds the loop over tensors,
and what happens in the network. All frames go through the network together; what a frame sees of the others are its p
neighbours on each side and a few global frames, so that processes only exchange those.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from longtake.errors import InputError
from longtake.model import TemporalHooks, VideoModel, VideoSpec
from longtake.request import Request, num_branches
from longtake.sampler import Plan
from longtake.samplers.clips import halos, held_frames, released_global_frames, split_evenly, spread_frames
from longtake.samplers.planning import Joint, check_one_prompt, chosen_steps, windows_of
from longtake.samplers.workload import LATENT_BYTES, RankWork, Sent, Workload, fetched

Phase = tuple[int, float, float]
REACH = 4
"""Frames to each side that a block of four convolutions sees."""
MOMENTS_BYTES = 2 * 4
"""Mean and variance of one frame in one group of a norm."""
LARGEST_LOGIT = 1000


@dataclass(frozen=True, kw_only=True)
class VideoInfinityPlan(Plan):
    """The clips, and what every frame looks at."""

    settings: "VideoInfinity"
    clips: tuple[range, ...]
    """Latent frames of every clip; they tile the video."""
    global_frames: tuple[int, ...]
    """Frames that every frame looks at."""

    @property
    def latent_frames(self) -> int:
        """Return the latent frames of the video."""
        return self.clips[-1].stop

    def weights(self, timestep: float) -> tuple[float, float]:
        """Return what is added to the logits of local and of global frames at a timestep (0 to 1000)."""
        local, distant = 0.0, 0.0
        early, late = self.settings.global_phase, self.settings.local_phase
        if late and timestep < late[0]:
            local, distant = local + late[1], distant + late[2]
        if early and timestep >= early[0]:
            local, distant = local + early[1], distant + early[2]
        return local, distant

    def prompt_frame(self, frame: int) -> int:
        """Return the latent frame whose prompt holds for a frame: its own, in compat the first of its clip."""
        if not self.settings.compat:
            return frame
        return next(clip.start for clip in self.clips if frame in clip)


@dataclass(frozen=True, kw_only=True)
class VideoInfinity(Joint):
    """Video-Infinity: the whole video at once, shared out over any number of processes (arXiv 2406.16260)."""

    name: ClassVar[str] = "video-infinity"
    task: ClassVar[str] = "clip"
    requires: ClassVar[tuple[type[VideoModel], ...]] = (TemporalHooks,)

    clips: int | None = None
    """Clips that the video is cut into, for processes to share; by default each about as long as the model's window."""
    padding: int = 24
    """Neighbours that a frame looks at on each side, p."""
    top_k: int = 16
    """Frames, spread over the whole video, that every frame looks at as well."""
    attn_scale: float = 1.0
    """Factor of the logits of attention over time."""
    token_num_scale: bool = False
    """Sharpen attention by ln(n) / ln(16) where a frame looks at n others (arXiv 2306.08645)."""
    local_phase: Phase | None = (800, 10.0, 0.0)
    """Below this timestep, add these to the logits of neighbours and of global frames."""
    global_phase: Phase | None = (800, 0.0, 10.0)
    """From this timestep on (1000 is pure noise), add these to the logits of neighbours and of global frames."""
    compat: bool = False
    """What the authors' code computes, with its quirks: norms per clip, zeros beyond the ends, a prompt per clip, noise
    that depends on the clips."""

    def plan(self, request: Request, spec: VideoSpec) -> VideoInfinityPlan:
        """Cut the video into clips and count the work. Raises InputError for settings that do not fit together."""
        self._check(request, spec)
        check_one_prompt(self.name, request, spec)
        assert request.frames is not None
        total = spec.timing.latent_frames(request.frames)
        clips = split_evenly(total, self._num_clips(total, spec))
        steps = chosen_steps(request, spec)
        far = released_global_frames(clips, self.top_k) if self.compat else spread_frames(total, self.top_k)
        plan = VideoInfinityPlan(
            request=request,
            spec=spec,
            settings=self,
            clips=clips,
            global_frames=far,
            num_levels=steps,
            forwards=None,
            forwards_per_frame=0.0,
            tasks=len(clips),
            decoded=total,
            window_batch=1,
            held_frames=total,
            window_frames=total,
        )
        forwards = windows_of(steps * num_branches(plan.guidance), total, spec)
        return replace(plan, forwards=forwards, forwards_per_frame=forwards / request.frames)

    def check_ranks(self, plan: Plan, ranks: int) -> None:
        """Raise InputError where there are more processes than clips."""
        assert isinstance(plan, VideoInfinityPlan)
        if ranks > len(plan.clips):
            raise InputError(
                f"{ranks} processes cannot share {len(plan.clips)} clips; "
                f"give at least as many: --sampler.clips {ranks}"
            )

    def _num_clips(self, total: int, spec: VideoSpec) -> int:
        clips = -(-total // spec.num_frames) if self.clips is None else self.clips
        if clips > total:
            raise InputError(f"{total} latent frames cannot be cut into {clips} clips; ask for fewer")
        if self.compat and total % clips:
            raise InputError(
                f"compat needs clips of one length, and {clips} clips do not divide {total} latent frames; "
                "change --sampler.clips or --frames"
            )
        return clips

    def _check(self, request: Request, spec: VideoSpec) -> None:
        self.check_joint(request, spec)
        if self.compat and self.blend:
            raise InputError("blend has no effect with compat, which switches prompts between clips; leave one out")
        if self.clips is not None and self.clips < 1:
            raise InputError(f"clips is {self.clips}; it must be 1 or more")
        for field in ("padding", "top_k"):
            if getattr(self, field) < 0:
                raise InputError(f"{field} is {getattr(self, field)}; it must be 0 or more")
        if not 0 < self.attn_scale <= LARGEST_LOGIT:
            raise InputError(f"attn_scale is {self.attn_scale}; it must be above 0, and {LARGEST_LOGIT} at most")
        for name in ("local_phase", "global_phase"):
            _, *added = getattr(self, name) or (0,)
            if not all(-LARGEST_LOGIT <= logit <= LARGEST_LOGIT for logit in added):
                raise InputError(f"{name} adds {added} to logits; use {-LARGEST_LOGIT} to {LARGEST_LOGIT}")


def clip_work(plan: Plan, ranks: int, width: int) -> Workload:
    """Return the work of a run: in every step, rank 0 also collects the latents for the state.

    Raises InputError for a model that does not say which of its layers mix frames.
    """
    assert isinstance(plan, VideoInfinityPlan)
    layers, settings = plan.spec.temporal_layers, plan.settings
    if layers is None:
        raise InputError(f"which layers of {plan.spec.name} mix frames is not known here; leave --ranks out")
    held = held_frames(plan.clips, ranks)
    traffic = forward_traffic(
        layers,
        plan.clips,
        ranks,
        padding=settings.padding,
        global_frames=plan.global_frames,
        compat=settings.compat,
        width=width,
    )
    channels, _, height, breadth = plan.spec.latent_shape
    collected = fetched(held, [range(plan.latent_frames), *[()] * (ranks - 1)])
    branches = num_branches(plan.guidance)
    return Workload(
        steps=plan.num_levels,
        first=0,
        ranks=tuple(
            RankWork(
                evaluations=branches * len(frames) / plan.spec.num_frames,
                sent=traffic[rank] * branches + collected[rank].sized(channels * height * breadth * LATENT_BYTES),
                held_frames=plan.latent_frames if rank == 0 else len(frames),
                window_batch=1,
                window_frames=len(frames),
            )
            for rank, frames in enumerate(held)
        ),
    )


def forward_traffic(
    layers: Sequence[tuple[str, int, int]],
    clips: Sequence[range],
    ranks: int,
    *,
    padding: int,
    global_frames: Sequence[int],
    compat: bool,
    width: int,
) -> list[Sent]:
    """Return what every process sends in one network evaluation of the whole video, one branch of guidance.

    `layers` as in `VideoSpec.temporal_layers`, the settings as in `VideoInfinity`; `width` is the bytes of a number.
    Every attention sends keys and values together: once to neighbours, once the global frames to all. In compat a block
    of convolutions asks for its surroundings once; else norms are over the whole video, and what a convolution needs
    travels with the moments of the norm before it, which everybody sends to everybody.
    """
    held = held_frames(clips, ranks)
    total = clips[-1].stop

    def halo(reach: int) -> list[Sent]:
        return fetched(held, halos(held, reach, total))

    far = fetched(held, [list(global_frames)] * ranks)
    near, block, convolution = halo(padding), halo(REACH), halo(1)
    moments = fetched(held, [range(total)] * ranks)
    sums = [Sent() for _ in held]
    for kind, channels, cells in layers:
        size = channels * cells * width
        for rank in range(ranks):
            if kind == "attention":
                sums[rank] += far[rank].sized(2 * size) + near[rank].sized(2 * size)
            elif kind == "block" and compat:
                sums[rank] += block[rank].sized(size)
            elif kind == "convolution" and not compat:
                sums[rank] += replace(convolution[rank].sized(size), messages=0, received_messages=0)
            elif kind == "norm" and not compat:
                sums[rank] += moments[rank].sized(MOMENTS_BYTES * channels)
    return sums
