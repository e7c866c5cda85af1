"""A video that was changed while it was made, in takes: each has prompts and a seed of its own, and goes on from what
the one before has left. The same turns make the same video, at once or with a change of mind on the way.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from longtake.model import VideoModel
from longtake.sampler import Chunk, Plan, State

if TYPE_CHECKING:
    from longtake.noise import Noise
    from longtake.ranks.world import World

Loop = Callable[[Any, Any, "Noise", "World", State | None], Iterator[Chunk]]
Renew = Callable[[Any, Any, "Noise", "World", State], State]
"""Returns the state in which what is half made begins anew."""

_TAKE = "take"


def run_takes(
    loop: Loop,
    renew: Renew | None,
    model: VideoModel,
    plan: Plan,
    noise: "Noise",
    world: "World",
    resume: State | None,
) -> Iterator[Chunk]:
    """Yield the video of a plan whose request has turns, as the `Loop` of its sampler yields others."""
    # Imports torch, which a plan must not wait for.
    from longtake.decoding import PREFIX
    from longtake.noise import seeded_noise

    turns, plans = plan.request.turns, _plans(plan)
    noises = [noise, *(seeded_noise(turn.seed) for turn in turns)]
    state = dict(resume) if resume else None
    take = int(state.pop(_TAKE, 0)) if state else 0
    made = int(state[PREFIX + "frames"]) if state else 0
    while True:
        while state and take < len(turns) and made >= turns[take].frame:
            take += 1
            if renew and not turns[take - 1].keep_begun:
                state = renew(model, plans[take], noises[take], world, state)
        for chunk in loop(model, plans[take], noises[take], world, state):
            yield replace(chunk, state=_labelled(chunk, take)) if take else chunk
            if take < len(turns):
                # Only the first process has the frames.
                made = world.all.say(chunk.start + len(chunk.frames))[0]
                if made >= turns[take].frame:
                    state = chunk.state()
                    break
        else:
            return


def _plans(plan: Plan) -> list[Plan]:
    """Return the plan of every take; all are as long as the video."""
    asked = [replace(plan.request, prompts=turn.prompts, turns=()) for turn in plan.request.turns]
    return [*(plan.settings.plan(request, plan.spec) for request in asked), plan]


def _labelled(chunk: Chunk, take: int) -> Callable[[], State]:
    import torch

    return lambda: {**chunk.state(), _TAKE: torch.tensor(take)}
