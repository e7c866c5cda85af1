"""Videos that change on the way, and states that do not know where a video ends, for every sampler that has them."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from longtake.errors import CapabilityError
from longtake.models.toy import Toy
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request, Turn
from longtake.samplers import SAMPLERS, pieces_of, run_plan, sampler_class

from .decoders import HeldBack, OnePrompt, Paired, Repeating

PROMPTS = PromptTimeline((0, 13), ("a", "b"))
TURNS = (
    Turn(frame=11, seed=8, prompts=PromptTimeline((0,), ("a",)), keep_begun=False),
    Turn(frame=26, seed=9, prompts=PROMPTS, keep_begun=True),
)
SETTINGS = [
    ("autoregressive", {}),
    ("chunked", {}),
    ("chunked", {"overlap": 3, "eta": 0.5}),
    ("fifo", {"decode_batch": 3}),
    ("fifo", {"partitions": 2, "decode_batch": 1, "eta": 0.5}),
    ("fifo", {"lookahead": False, "frames_per_level": 2}),
]


def planned(name, settings, model, frames=37, turns=(), prompts=PROMPTS, seed=5):
    steps = None if name == "fifo" else 3
    request = Request(prompts=prompts, frames=frames, seed=seed, steps=steps, turns=turns)
    return sampler_class(name)(**settings).plan(request, model.spec)


def chunks(model, plan, resume=None, world=ALONE):
    return run_plan(model, plan, seeded_noise(plan.request.seed), world, resume)


def joined(made):
    return np.concatenate([chunk.frames for chunk in made])


def states_of(made):
    """Return the frames, and after every chunk how many there are and the state."""
    frames, states = [], []
    for chunk in made:
        frames.append(chunk.frames)
        states.append((sum(map(len, frames)), {key: value.clone() for key, value in chunk.state().items()}))
    return np.concatenate(frames), states


@pytest.mark.parametrize("make", [Toy, HeldBack, lambda: Repeating(4)], ids=["toy", "held-back", "repeating"])
@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_from_a_free_state_a_longer_video_goes_on(name, settings, make):
    model = make()
    if not model.spec.frame_by_frame and settings.get("overlap"):
        pytest.skip("overlap needs a latent for every frame")
    plan, longer = (planned(name, settings, model, frames) for frames in (90, 131))
    pieces = pieces_of(plan)
    whole = joined(chunks(model, longer))
    _, states = states_of(chunks(model, plan))
    free = [(made, state) for made, state in states if made and made <= pieces.free]
    assert free and len(free) < len(states)
    for made, state in (free[0], free[-1]):
        assert np.array_equal(joined(chunks(model, longer, state)), whole[made:])


@pytest.mark.parametrize("model", [Toy(), HeldBack(), Paired()], ids=["toy", "held-back", "paired"])
@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_pieces_end_where_the_plan_says(name, settings, model):
    if not model.spec.frame_by_frame and settings.get("overlap"):
        pytest.skip("overlap needs a latent for every frame")
    plan = planned(name, settings, model, 90)
    ends = [made for made, _ in states_of(chunks(model, plan))[1] if made]
    pieces = pieces_of(plan)
    for frame in range(80):
        cut = pieces.before(frame)
        assert cut == 0 or next(end for end in ends if end >= cut) <= frame
    assert all(later - before <= pieces.later for before, later in zip(ends[:-2], ends[1:-1], strict=True))


def new_from(frame):
    return PromptTimeline((0, frame), ("a", "b")) if frame else PromptTimeline((0,), ("b",))


@pytest.mark.parametrize("make", [OnePrompt, lambda: Repeating(4)], ids=["a window", "a frame"])
def test_windows_have_a_prompt_from_where_the_plan_says(make):
    model = make()
    new = joined(chunks(model, planned("chunked", {}, model, 40, prompts=new_from(0))))
    for frame in (0, 1, 4, 5, 7, 9, 13, 19, 29):
        plan = planned("chunked", {}, model, 40, prompts=new_from(frame))
        others = (joined(chunks(model, plan)) != new).reshape(40, -1).any(1)
        assert pieces_of(plan).holds_from(frame) == max(frame, others.nonzero()[0].max(initial=-1) + 1)


@pytest.mark.parametrize("prompts", ["frame", "window"])
@pytest.mark.parametrize("make", [Toy, Paired])
@pytest.mark.parametrize("settings", [{}, {"lookahead": False, "partitions": 2}])
def test_a_queue_has_a_prompt_from_where_the_plan_says(settings, make, prompts):
    model = make()
    model.spec = replace(model.spec, prompts=prompts)
    for frame in (0, 1, 2, 5, 9, 13):
        plan, old = planned("fifo", settings, model, 90, prompts=new_from(frame)), [-1]
        for iteration, window in product(range(plan.iterations), plan.windows):
            middle = window.start + plan.spec.num_frames // 2
            for slot in window.kept if frame else ():
                (row,) = plan.prompts_of([plan.frame(iteration, middle if prompts == "window" else slot)])
                old += [plan.frame(iteration, slot)] if row == 1 else []
        assert pieces_of(plan).holds_from(frame) == model.spec.timing.pixel_frames(max(old) + 1)


@pytest.mark.parametrize("model", [Toy(), HeldBack()], ids=["toy", "held-back"])
@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_a_video_with_turns_goes_on_from_any_chunk(name, settings, model):
    plan = planned(name, settings, model, 50, TURNS)
    whole, states = states_of(chunks(model, plan))
    assert len(whole) == 50
    for made, state in states[:-1]:
        assert np.array_equal(joined(chunks(model, plan, state)), whole[made:])
    first = planned(name, settings, model, 50, prompts=TURNS[0].prompts)
    until = next(made for made, _ in states if made >= TURNS[0].frame)
    before = joined(chunks(model, first))
    assert np.array_equal(whole[:until], before[:until])
    assert not np.array_equal(whole[until : until + 8], before[until : until + 8])


@pytest.mark.parametrize("make", [Toy, HeldBack, Paired])
@pytest.mark.parametrize("settings", [{"decode_batch": 1}, {"decode_batch": 3}, {"partitions": 2, "lookahead": False}])
def test_what_has_not_begun_in_a_queue_is_as_if_it_had_been_told_so_from_the_start(settings, make):
    model = make()
    plan = planned("fifo", settings, model, 90)
    made, state = next((made, state) for made, state in states_of(chunks(model, plan))[1] if made > 13)
    told = PromptTimeline((0, 13, made + pieces_of(plan).begun), ("a", "b", "c"))
    turn = Turn(frame=made, seed=5, prompts=PROMPTS, keep_begun=True)
    whole = joined(chunks(model, planned("fifo", settings, model, 90, prompts=told)))
    retold = joined(chunks(model, planned("fifo", settings, model, 90, (turn,), told), state))
    assert np.array_equal(retold, whole[made:])


def test_a_turn_that_changes_nothing_is_the_plain_video():
    model, same = Toy(), Turn(frame=11, seed=5, prompts=PROMPTS, keep_begun=True)
    plain, turned = (planned("fifo", {"decode_batch": 3}, model, 50, turns) for turns in ((), (same,)))
    assert np.array_equal(joined(chunks(model, turned)), joined(chunks(model, plain)))


def video_on(world, name, settings):
    model = Toy()
    return joined(chunks(model, planned(name, settings, model, 50, TURNS), world=world))


@pytest.mark.parametrize(("name", "settings"), [("chunked", {}), ("fifo", {"partitions": 2, "decode_batch": 3})])
def test_processes_turn_together(name, settings, ranks):
    alone = video_on(ALONE, name, settings)
    first, other = ranks.run(2, video_on, name, settings)
    assert np.abs(first.astype(int) - alone).max() <= 1 and not len(other)


@pytest.mark.parametrize("name", [name for name, entry in SAMPLERS.items() if entry.pieces is None])
def test_other_samplers_take_no_turns(name):
    model = Toy()
    plan = replace(planned(name, {}, model), request=Request(prompts=PROMPTS, frames=37, turns=TURNS))
    with pytest.raises(CapabilityError, match="takes no turns"):
        run_plan(model, plan, seeded_noise(5), ALONE)
