"""Samplers by name, and the way from a plan to its video, also of one that was changed while it was made.

To add one: its room, its row here, its page in docs/methods.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from longtake.errors import CapabilityError, InputError, unknown_name
from longtake.lazy import named
from longtake.model import ToldFps, VideoModel, VideoSpec
from longtake.request import Request
from longtake.sampler import Chunk, Plan, Sampler, State, TaskSampler
from longtake.samplers.planning import UNCONDITIONAL, Pieces, checked_plan
from longtake.tasks.task import Executor, Store, Work

if TYPE_CHECKING:
    from longtake.noise import Noise
    from longtake.ranks.world import World

_TAKE = "take"


@runtime_checkable
class Loop(Protocol):
    """Carries out the plans of a sampler."""

    def __call__(
        self, model: VideoModel, plan: Any, noise: "Noise", world: "World", resume: State | None
    ) -> Iterator[Chunk]:
        """Make the video, from its start or from the state of an earlier chunk.

        Every process of `world` runs it and yields as many chunks; only those of rank 0 need frames. What takes
        messages happens before a chunk is yielded: `Chunk.state` sends none.
        """
        ...


Renew = Callable[[Any, Any, "Noise", "World", State], State]
"""Returns the state in which what is half made begins anew."""


class TaskLoop(Protocol):
    """Carries out the plans of a sampler whose work falls into tasks."""

    def __call__(
        self, model: VideoModel, plan: Any, executor: Executor, store: Store, resume: State | None, *, writes: bool
    ) -> Iterator[Chunk]:
        """Make the video, as a `Loop` does, by tasks that `executor` does and whose results `store` keeps; without
        `writes` no frames are needed."""
        ...


@dataclass(frozen=True, kw_only=True)
class SamplerEntry:
    """Where the parts of a sampler are, as module:name."""

    settings: str
    """A `Sampler`; neither it nor its module may import torch."""
    loop: str
    """A `Loop`, a `TaskLoop` where there are tasks."""
    together: str | None = None
    """What makes several videos at once whose plans differ in their prompts alone, given model, plans and noises: the
    chunks of each. Without one, a batch makes them one after the other."""
    work: str | None = None
    """What makes the `Work` of a plan, given model, plan, noise and world, where the work falls into tasks."""
    workload: str | None = None
    """What counts the `Workload` of a plan, given it, the number of processes and the bytes of a number, without torch;
    where there is one, a run on more processes can be forecast."""
    pieces: str | None = None
    """What says of a plan, without torch, in which `Pieces` its video comes; where there is one, a video can be made
    longer, and otherwise from a frame on."""
    renew: str | None = None
    """What begins anew frames that are half made where the video turns, see `Renew`; None where there are none."""


SAMPLERS = {
    "autoregressive": SamplerEntry(
        settings="longtake.samplers.autoregressive.plan:Autoregressive",
        loop="longtake.samplers.autoregressive.loop:run",
        pieces="longtake.samplers.autoregressive.plan:clip_pieces",
        together="longtake.samplers.autoregressive.loop:run_together",
    ),
    "chunked": SamplerEntry(
        settings="longtake.samplers.chunked.plan:Chunked",
        loop="longtake.samplers.chunked.loop:run",
        pieces="longtake.samplers.chunked.plan:window_pieces",
    ),
    "context-windows": SamplerEntry(
        settings="longtake.samplers.context_windows.plan:ContextWindows",
        loop="longtake.samplers.context_windows.loop:run",
    ),
    "fifo": SamplerEntry(
        settings="longtake.samplers.fifo.plan:Fifo",
        loop="longtake.samplers.fifo.loop:run",
        workload="longtake.samplers.fifo.plan:fifo_work",
        pieces="longtake.samplers.fifo.plan:queue_pieces",
        renew="longtake.samplers.fifo.loop:renewed",
    ),
    "freenoise": SamplerEntry(
        settings="longtake.samplers.freenoise.plan:FreeNoise",
        loop="longtake.samplers.freenoise.loop:run",
    ),
    "nuwa-xl": SamplerEntry(
        settings="longtake.samplers.nuwa_xl.plan:NuwaXl",
        loop="longtake.samplers.nuwa_xl.loop:drive",
        work="longtake.samplers.nuwa_xl.loop:node_work",
        workload="longtake.samplers.nuwa_xl.plan:tree_work",
    ),
    "video-infinity": SamplerEntry(
        settings="longtake.samplers.video_infinity.plan:VideoInfinity",
        loop="longtake.samplers.video_infinity.loop:run",
        workload="longtake.samplers.video_infinity.plan:clip_work",
    ),
}

DEFAULT_SAMPLER = "fifo"
"""By which a video is made where neither a sampler nor a preset is named."""
PRESETS = {
    "loop": "longtake.samplers.context_windows.plan:loop",
    "realtime": "longtake.samplers.fifo.plan:realtime",
}
"""Functions that return a sampler with settings that were chosen by measurement."""


def sampler_class(name: str) -> type[Sampler]:
    """Return the sampler of a name; InputError, with the nearest name, for an unknown one."""
    if name not in SAMPLERS:
        raise unknown_name("sampler", name, SAMPLERS)
    return named(SAMPLERS[name].settings)


def samplers_of(spec: VideoSpec) -> list[str]:
    """Return the samplers that take a model: all but those that refuse it for what it is, whatever they are given."""
    asked = Request(prompts=UNCONDITIONAL, frames=spec.timing.pixel_frames(spec.num_frames))
    return [name for name in SAMPLERS if _takes(spec, asked, sampler_class(name)())]


def _takes(spec: VideoSpec, request: Request, sampler: Sampler) -> bool:
    try:
        checked_plan(spec, request, sampler)
    except CapabilityError:
        return False
    except InputError:
        # It wants something beside, such as a picture.
        return True
    return True


def pieces_of(plan: Plan) -> Pieces | None:
    """Return in which pieces a video comes; None where all of it is made together."""
    entry = SAMPLERS[plan.settings.name]
    return None if entry.pieces is None else named(entry.pieces)(plan)


def preset_settings(name: str) -> Sampler:
    """Return a sampler with the settings of a preset; InputError, with the nearest name, for an unknown one."""
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return named(PRESETS[name])()


def run_plan(
    model: VideoModel,
    plan: Plan,
    noise: "Noise",
    world: "World",
    resume: State | None = None,
    executor: Executor | None = None,
    store: Store | None = None,
) -> Iterator[Chunk]:
    """Make the video of a plan, from its start or from the state of an earlier chunk; see `Loop`.

    Where the work falls into tasks, `executor` does them, by default the processes of `world`, and `store` keeps the
    results, for all these processes; without one they are in the state of a chunk while they are needed.
    """
    entry = SAMPLERS[plan.settings.name]
    if plan.request.turns:
        if entry.pieces is None:
            raise CapabilityError(f"{plan.settings.name} makes its frames together and takes no turns; leave them out")
        renew = None if entry.renew is None else named(entry.renew)
        return run_takes(named(entry.loop), renew, _told(model, plan), plan, noise, world, resume)
    if entry.work is None:
        loop: Loop = named(entry.loop)
        return loop(_told(model, plan), plan, noise, world, resume)
    # These import torch, which a plan must not wait for.
    from longtake.tasks.rounds import Rounds
    from longtake.tasks.stores import MemoryStore

    if executor is None:
        executor = Rounds(plan_work(model, plan, noise, world), world.clip, model.device)
    drive: TaskLoop = named(entry.loop)
    return drive(model, plan, executor, store or MemoryStore(), resume, writes=world.rank == 0)


def plan_work(model: VideoModel, plan: Plan, noise: "Noise", world: "World") -> Work:
    """Return what does the tasks of a plan; a worker makes its own, with its own model."""
    entry = SAMPLERS[plan.settings.name]
    assert entry.work is not None
    return named(entry.work)(_told(model, plan), plan, noise, world)


def start_work(
    load: Callable[[int], VideoModel], request: Request, sampler: TaskSampler, part: tuple[int, int] | None, number: int
) -> Work:
    """Return what does the tasks of a request, or of this part of it, in a worker of its own. `load` makes the model of
    worker `number`."""
    from longtake.noise import seeded_noise
    from longtake.ranks.world import ALONE

    model = load(number)
    return plan_work(model, checked_plan(model.spec, request, sampler, part), seeded_noise(request.seed), ALONE)


def _told(model: VideoModel, plan: Plan) -> VideoModel:
    """Return the model as the request wants it: telling its network of other frames per second, if of any."""
    fps = plan.request.told_fps
    return model.told(fps) if fps is not None and isinstance(model, ToldFps) else model


def run_takes(
    loop: Loop,
    renew: Renew | None,
    model: VideoModel,
    plan: Plan,
    noise: "Noise",
    world: "World",
    resume: State | None,
) -> Iterator[Chunk]:
    """Yield the video of a plan whose request has turns, in takes: each has prompts and a seed of its own, and goes on
    from what the one before has left. The same turns make the same video, at once or with a change of mind on the way.
    """
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
