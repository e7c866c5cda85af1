"""What FIFO-Diffusion's processes compute and send: the windows of one iteration, shared out."""

from collections.abc import Sequence
from dataclasses import replace

from longtake.request import num_branches
from longtake.sampler import Plan
from longtake.samplers.fifo.plan import FifoPlan
from longtake.samplers.workload import RankWork, Workload, fetched

LATENT_BYTES = 4
"""The queue is kept in float32 whatever the network computes in."""


def fifo_work(plan: Plan, ranks: int, width: int) -> Workload:
    """Return the work of a run; every iteration counts as a full one. The queue is float32, whatever `width`."""
    assert isinstance(plan, FifoPlan) and plan.iterations is not None
    # Without an end, an iteration after the warm-up computes all windows.
    shares = replace(plan, latent_frames=None).shares(plan.body, ranks)
    slots = [_slots(plan, share) for share in shares]
    channels, _, height, breadth = plan.spec.latent_shape
    sent = fetched(slots, [[slot for share in slots for slot in share]] * ranks)
    branches = num_branches(plan.guidance)
    return Workload(
        steps=plan.iterations,
        first=branches * plan.num_levels,
        ranks=tuple(
            RankWork(
                evaluations=float(sum(branches if plan.guided(window) else 1 for batch in share for window in batch)),
                sent=sent[rank].sized(channels * height * breadth * LATENT_BYTES),
                held_frames=plan.held_frames,
                window_batch=max((len(batch) for batch in share), default=1),
                window_frames=plan.window_frames,
            )
            for rank, share in enumerate(shares)
        ),
    )


def _slots(plan: FifoPlan, share: Sequence[Sequence[int]]) -> list[int]:
    """Return the slots of the queue that these batches of windows write."""
    windows = [plan.windows[index] for batch in share for index in batch]
    return [slot for window in windows for slot in range(window.keep_start, window.keep_stop)]
