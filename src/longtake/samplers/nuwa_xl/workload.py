"""What NUWA-XL's processes compute, send and hold, counted by index arithmetic; a step is a round of calls."""

from math import prod

from longtake.request import num_branches
from longtake.sampler import Plan
from longtake.samplers.nuwa_xl.plan import NuwaXlPlan
from longtake.samplers.workload import RankWork, Workload, gathered


def tree_work(plan: Plan, ranks: int, width: int) -> Workload:
    """Return the rounds of a tree: a call on every process, then all have all results, in float32 whatever `width`.

    Counted as if a level waited for the one before; the real order takes at most as many rounds, but for one.
    """
    assert isinstance(plan, NuwaXlPlan)
    counts = [plan.ladder.num_needed(level, plan.wanted) for level in range(1, plan.ladder.depth + 1)]
    if plan.settings.keyframes is not None:
        counts[0] = 0
    rounds = sum(-(-count // ranks) for count in counts)
    per_call = plan.steps * num_branches(plan.call_guidance(plan.ladder.depth))
    work = RankWork(
        evaluations=plan.forwards / plan.tasks if plan.forwards and plan.tasks else float(per_call),
        sent=gathered(4 * prod(plan.spec.latent_shape), ranks),
        # The path to the present call, and what others have finished at the same time.
        held_frames=plan.held_frames + (ranks - 1) * plan.spec.num_frames,
        window_batch=1,
        window_frames=plan.spec.num_frames,
    )
    return Workload(steps=rounds, first=0, ranks=(work,) * ranks)
