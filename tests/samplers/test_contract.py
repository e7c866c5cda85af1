"""What every sampler promises, row by row of the table, on the toy model."""

import math
from dataclasses import fields, replace
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch

from longtake._generate import stream
from longtake.errors import InputError, LongtakeError
from longtake.models.toy import Toy, colour
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import GuidanceByLevel, PromptTimeline, Request
from longtake.samplers import SAMPLERS, run_plan, sampler_class
from longtake.samplers.planning import checked_plan

from .decoders import HeldBack, OnePrompt

PROMPTS = PromptTimeline((0, 13), ("a", "b"))
DECODERS = [Toy, HeldBack]
STREAMS = [*((name, {}) for name in SAMPLERS), ("chunked", {"overlap": 3}), ("nuwa-xl", {"handoff": "pixel"})]


def few(name):
    """Steps enough for what does not hang on their number; the queue of fifo has as many as it has slots."""
    return None if name == "fifo" else 8


def planned(name, frames=37, seed=5, model=Toy, prompts=PROMPTS, steps=None, **settings):
    made, sampler = model(), sampler_class(name)(**settings)
    return made, sampler, sampler.plan(Request(prompts=prompts, frames=frames, seed=seed, steps=steps), made.spec)


def chunks(name, resume=None, **request):
    model, sampler, plan = planned(name, **request)
    return run_plan(model, plan, seeded_noise(plan.request.seed), ALONE, resume)


@pytest.mark.parametrize("model", DECODERS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_frame_comes_once_and_in_order(name, model):
    next_frame = 0
    for chunk in chunks(name, model=model, steps=few(name)):
        assert chunk.start == next_frame
        assert chunk.frames.dtype == np.uint8 and chunk.frames.shape[1:] == (8, 8, 3)
        next_frame += len(chunk.frames)
    assert next_frame == 37


@pytest.mark.parametrize("model", DECODERS)
@pytest.mark.parametrize(("name", "settings"), STREAMS)
def test_going_on_from_any_chunk_gives_the_same_frames(name, settings, model):
    whole, states = [], []
    for chunk in chunks(name, model=model, steps=few(name), **settings):
        whole.append(chunk.frames)
        states.append({key: value.clone() for key, value in chunk.state().items()})
    for index in range(len(states) - 1):
        rest = [chunk.frames for chunk in chunks(name, states[index], model=model, steps=few(name), **settings)]
        assert np.array_equal(np.concatenate(rest), np.concatenate(whole[index + 1 :]))


@pytest.mark.parametrize(("name", "settings"), STREAMS)
def test_every_stream_is_decoded_to_its_end_and_as_in_one_piece(name, settings, monkeypatch):
    model, sampler, plan = planned(name, model=HeldBack, steps=few(name), **settings)
    begun, ended, decode = [], [], model.decode

    def noted(latents, state, last):
        stream = [] if state is None else begun.pop()
        frames, state = decode(latents, state, last)
        (ended if last else begun).append([*stream, (latents, frames)])
        return frames, state

    monkeypatch.setattr(model, "decode", noted)
    for _ in run_plan(model, plan, seeded_noise(5), ALONE, None):
        pass
    assert ended and not begun
    for pieces in ended:
        latents, frames = zip(*pieces, strict=True)
        assert torch.equal(torch.cat(frames), decode(torch.cat(latents, dim=1), None, last=True)[0])


ABSURD = {int: (-1, 0, 3, 10**12), float: (-1.0, 0.0, 1e308, math.nan), bool: (True, False)}


def values(kind):
    """Return what a setting of this type could be given: any number, or each of the words."""
    match get_origin(kind):
        case None:
            return ABSURD.get(kind, ())
        case origin if origin is Literal:
            return get_args(kind)
        case origin if origin is Annotated:
            return values(get_args(kind)[0])
        case origin if origin in (Union, UnionType):
            return [value for one in get_args(kind) for value in values(one)]
        case _:
            return ()


@pytest.mark.parametrize("name", SAMPLERS)
def test_whatever_a_run_would_refuse_is_refused_by_the_plan(name):
    given = [(field, value) for kind in (sampler_class(name), Request) for field, value in absurd(kind)]
    asked, made = Request(prompts=PROMPTS, frames=20, steps=None if name == "fifo" else 2), 0
    assert len(given) > 15
    for field, value in given:
        try:
            if field in {one.name for one in fields(Request)}:
                request, sampler = replace(asked, **{field: value}), sampler_class(name)()
            else:
                request, sampler = asked, sampler_class(name)(**{field: value})
            plan = checked_plan(Toy().spec, request, sampler)
        except LongtakeError:
            continue
        # What is only long is no mistake.
        if plan.forwards is not None and plan.forwards < 60:
            assert sum(map(len, stream(Toy(), request, sampler))) == request.frames, f"{field} {value}"
            made += 1
    assert made > 5


def absurd(kind):
    """Return the settings of a class, each with everything that it could be given."""
    hints = get_type_hints(kind, include_extras=True)
    return [(field.name, value) for field in fields(kind) for value in values(hints[field.name])]


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_seed_decides(name):
    def video(seed):
        return np.concatenate([chunk.frames for chunk in chunks(name, seed=seed, steps=few(name))])

    assert np.array_equal(video(5), video(5))
    assert not np.array_equal(video(5), video(6))


@pytest.mark.parametrize("frames", [1, 8, 37])
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_plan_counts_what_the_run_does(name, frames, monkeypatch):
    model, sampler, plan = planned(name, frames=frames, steps=few(name))
    denoised, decoded = [], []
    denoise, decode = model.denoise, model.decode
    monkeypatch.setattr(model, "denoise", lambda x, *rest: denoised.append(x.shape) or denoise(x, *rest))
    monkeypatch.setattr(model, "decode", lambda z, state, last: decoded.append(z.shape[1]) or decode(z, state, last))
    for _ in run_plan(model, plan, seeded_noise(5), ALONE, None):
        pass
    # In windows of the model's own length, however long a piece each sampler gives to the network.
    assert sum(shape[0] * shape[2] for shape in denoised) == plan.forwards * model.spec.num_frames
    assert {shape[2] for shape in denoised} == {plan.window_frames}
    assert sum(decoded) == plan.decoded
    assert max(shape[0] for shape in denoised) <= plan.window_batch


@pytest.mark.parametrize("name", SAMPLERS)
def test_prompts_are_embedded_as_they_are_reached_each_once_and_alone(name, monkeypatch):
    model, sampler = Toy(), sampler_class(name)()
    story = PromptTimeline(tuple(range(0, 5000, 5)), tuple(f"scene {number}" for number in range(1000)))
    plan = sampler.plan(Request(prompts=story, frames=37, seed=5, steps=few(name)), model.spec)
    batches, encode = [], model.encode
    monkeypatch.setattr(model, "encode", lambda prompts: batches.append(prompts) or encode(prompts))
    for _ in run_plan(model, plan, seeded_noise(5), ALONE, None):
        pass
    assert {len(batch) for batch in batches} == {1}
    negative, *reached = [text for (text,) in batches]
    assert negative == "" and len(set(reached)) == len(reached) and set(reached) >= set(story.texts[:8])
    # The last window may hold frames that come after the end.
    assert max(map(story.texts.index, reached)) * 5 < 37 + model.spec.num_frames


MANY_WINDOWS = {"fifo": {"partitions": 3}}


def share_of_video(world, name):
    """The frames and the last state that one rank yields."""
    torch.set_num_threads(1)
    model, sampler = Toy(), sampler_class(name)(**MANY_WINDOWS.get(name, {}))
    plan = sampler.plan(Request(prompts=PROMPTS, frames=37, seed=5, guidance=2.0, steps=few(name)), model.spec)
    sampler.check_ranks(plan, world.clip.size)
    made = list(run_plan(model, plan, seeded_noise(5), world, None))
    return np.concatenate([chunk.frames for chunk in made]), [chunk.start for chunk in made], made[-1].state()


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("size", "cfg"), [pytest.param(2, 1, marks=SLOW), (3, 1), (2, 2), pytest.param(4, 2, marks=SLOW)]
)
@pytest.mark.parametrize("name", SAMPLERS)
def test_ranks_share_the_work_and_change_nothing(name, size, cfg, ranks):
    sampler = sampler_class(name)(**MANY_WINDOWS.get(name, {}))
    try:
        sampler.check_ranks(sampler.plan(Request(prompts=PROMPTS, frames=37), Toy().spec), size // cfg)
    except InputError as refusal:
        assert size > cfg and "each waits for the one before" in str(refusal)
        return
    alone, _, state = share_of_video(ALONE, name)
    (first, *others) = ranks.run(size, share_of_video, name, cfg=cfg)
    assert np.abs(first[0].astype(int) - alone).max() <= 1
    assert all(len(other[1]) == len(first[1]) for other in others)
    for key, tensor in first[2].items():
        torch.testing.assert_close(tensor, state[key], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_endless_run_goes_on_with_as_much_memory(name):
    try:
        stream = chunks(name, frames=None, steps=few(name))
    except InputError as refusal:
        assert "endless" in str(refusal)
        return
    sizes = set()
    for chunk in stream:
        if len(chunk.frames):
            sizes.add(sum(tensor.numel() for tensor in chunk.state().values()))
        if chunk.start > 300:
            break
    assert len(sizes) == 1
    assert planned(name, frames=None)[2].forwards is None


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_prompt_in_force_shows(name):
    """The toy paints its prompt's colour: after the change of prompt the video has to move to the other colour."""
    video = np.concatenate([chunk.frames for chunk in chunks(name, frames=60)]).astype(float)
    colours = Toy(torch.float64).encode(["a", "b"]).rows["mu"].numpy()
    target_a, target_b = (127.5 + colour * 255 / 4 for colour in colours)
    first, last = video[:13].mean((0, 1, 2)), video[30:].mean((0, 1, 2))
    assert np.abs(first - target_a).sum() < np.abs(first - target_b).sum()
    assert np.abs(last - target_b).sum() < np.abs(last - target_a).sum()


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_model_of_one_prompt_a_window_is_given_one(name):
    """Both prompts come up, each for whole windows; a sampler whose window is the whole video takes one prompt only."""
    try:
        model, _, plan = planned(name, model=OnePrompt, steps=few(name))
    except InputError as refusal:
        assert "denoises the whole video as one window" in str(refusal) and "give one prompt" in str(refusal)
        model, _, plan = planned(name, model=OnePrompt, prompts=PromptTimeline.constant("a"), steps=few(name))
    frames = np.concatenate([chunk.frames for chunk in run_plan(model, plan, seeded_noise(5), ALONE, None)])
    assert len(frames) == 37
    assert model.given == {tuple(colour(text).tolist()) for text in plan.request.prompts.texts}


def test_a_window_has_the_prompt_of_its_middle_frame():
    """Frame 12 is in the middle of the second window of 8, before the prompt changes; the third is all after that."""
    made = [chunk.frames for chunk in chunks("chunked", model=OnePrompt)]
    switched = chunks("chunked", prompts=PromptTimeline((0, 16), ("a", "b")))
    assert np.array_equal(np.concatenate(made), np.concatenate([chunk.frames for chunk in switched]))


@pytest.mark.parametrize("name", SAMPLERS)
def test_guidance_by_level_shows_and_is_counted(name, monkeypatch):
    """Two equal numbers are as one, two others are not."""

    def video(guidance):
        model, denoised = Toy(), []
        model.spec = replace(model.spec, guidance=guidance)
        plan = sampler_class(name)().plan(Request(prompts=PROMPTS, frames=20, seed=5, steps=few(name)), model.spec)
        denoise = model.denoise
        monkeypatch.setattr(model, "denoise", lambda x, *rest: denoised.append(x.shape) or denoise(x, *rest))
        made = np.concatenate([chunk.frames for chunk in run_plan(model, plan, seeded_noise(5), ALONE, None)])
        assert sum(shape[0] * shape[2] for shape in denoised) == plan.forwards * model.spec.num_frames
        return made

    plain = video(2.0)
    assert np.array_equal(plain, video(GuidanceByLevel(2.0, 2.0, 500)))
    noisy_alone, clean_alone = video(GuidanceByLevel(2.0, 1.0, 500)), video(GuidanceByLevel(1.0, 2.0, 500))
    assert not np.array_equal(plain, noisy_alone) and not np.array_equal(plain, clean_alone)
    assert not np.array_equal(noisy_alone, clean_alone)
