"""What Video-Infinity's processes compute and send: the exchanges of mixer.py, counted."""

from collections.abc import Sequence

from longtake.errors import InputError
from longtake.request import num_branches
from longtake.sampler import Plan
from longtake.samplers.clips import halos, held_frames
from longtake.samplers.video_infinity.plan import VideoInfinityPlan
from longtake.samplers.workload import RankWork, Sent, Workload, fetched, gathered

REACH = 4
"""Frames to each side that a block of four convolutions sees."""
MOMENTS_BYTES = 2 * 4
"""Mean and variance of one frame in one group of a norm."""
LATENT_BYTES = 4
"""Latents are kept in float32 whatever the network computes in."""


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
    of convolutions asks for its surroundings once; else every convolution does, and norms are over the whole video.
    """
    held = held_frames(clips, ranks)
    total = clips[-1].stop

    def halo(reach: int) -> list[Sent]:
        return fetched(held, halos(held, reach, total))

    far = fetched(held, [list(global_frames)] * ranks)
    near, block, convolution = halo(padding), halo(REACH), halo(1)
    moments = MOMENTS_BYTES * max(len(frames) for frames in held)
    sums = [Sent() for _ in held]
    for kind, channels, cells in layers:
        size = channels * cells * width
        for rank in range(ranks):
            if kind == "attention":
                sums[rank] += far[rank].sized(2 * size) + near[rank].sized(2 * size)
            elif kind == "block" and compat:
                sums[rank] += block[rank].sized(size)
            elif kind == "convolution" and not compat:
                sums[rank] += convolution[rank].sized(size)
            elif kind == "norm" and not compat:
                sums[rank] += gathered(moments * channels, ranks)
    return sums
