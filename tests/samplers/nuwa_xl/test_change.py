"""A NUWA-XL story told otherwise: what stays, what it costs, and that it can be had again."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from longtake._generate import Output, generate
from longtake.errors import CapabilityError, InputError
from longtake.models.toy import Toy
from longtake.report import read_order
from longtake.request import PromptTimeline, Request
from longtake.samplers.nuwa_xl.ladder import Node
from longtake.samplers.nuwa_xl.loop import Tree
from longtake.samplers.nuwa_xl.plan import NuwaXl
from longtake.tasks.stores import FolderStore, MemoryStore
from longtake.video.read import read_frames

from .test_nuwa_xl import chunks, planned, toy, video

STORY = '{"0": "a", "20": "b", "40": "c"}'
"""65 frames are a tree of 1, 4 and 16 calls, whose first makes frames 0, 16, 32, 48 and 64."""


def told(texts, *before, frames=65, **settings):
    """A plan of a story: texts by the frames that they start at."""
    return planned(frames, prompts=PromptTimeline(tuple(texts), tuple(texts.values())), before=before, **settings)


def learned_apart(plan):
    """The plan for a model that has learned frames as far apart as the first call makes them."""
    return plan.settings.plan(plan.request, replace(plan.spec, strides=(1, 16)))


AFTER = {0: "a", 20: "new", 40: "c"}
"""Its shot covers frame 32, which the first call makes."""


def change_of(plan):
    assert plan.change
    return plan.change


def changed(plan):
    """The calls that make a frame whose prompt is another, found one by one."""
    ladder, change = plan.ladder, change_of(plan)
    nodes = {ladder.owner(frame) for frame in range(plan.request.frames) if change.at(frame)}
    # The tree goes on after the end.
    return nodes | {node for node in [Node(1, 0)] if any(map(change.at, ladder.window(node)))}


def test_a_shot_with_a_frame_of_the_first_call_costs_that_call_and_those_of_its_own_frames(tmp_path):
    store = FolderStore(tmp_path / "nodes")
    before, _ = video(told({0: "a", 20: "b", 40: "c"}), store=store)
    plan = told(AFTER, STORY)
    after, executor = video(plan, store=store)
    calls = [node for node in executor.done if change_of(plan).is_made(node)]
    assert set(calls) == changed(plan) and len(calls) == 1 + 2 + 5 < 21
    assert "the change costs 8 of 21 calls, 8 forwards" in plan.warnings[-1]
    stays = np.array([not change_of(plan).at(frame) for frame in range(65)])
    assert np.array_equal(after[stays], before[stays])
    assert (after[~stays] != before[~stays]).any(axis=(1, 2, 3)).all()


def test_what_goes_on_is_said_in_words():
    said = [chunk.doing for chunk in chunks(told(AFTER, STORY))[0] if chunk.doing]
    assert {"frames 0 to 64, 16 apart, are made", "frames 16 to 32, 4 apart, are made", "frames 16 to 20 are made"} < {
        *said
    }


def test_a_change_made_in_batches_is_that_made_call_by_call():
    plan, batched = (told(AFTER, STORY, window_batch=size) for size in (1, 5))
    assert np.abs(video(plan)[0].astype(int) - video(batched)[0]).max() <= 1
    assert batched.tasks == plan.tasks and batched.forwards == plan.forwards


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("kept", [True, False], ids=["nodes", "no nodes"])
def test_a_story_told_otherwise_is_the_same_from_what_was_kept_and_from_nothing(tmp_path, slots, kept):
    store = FolderStore(tmp_path / "nodes")
    if kept:
        video(told({0: "a", 20: "b", 40: "c"}), store=store)
    plan = told(AFTER, STORY)
    one, executor = video(plan, store=store, slots=slots)
    assert np.array_equal(one, video(plan)[0])
    if not kept:
        assert plan.tasks and plan.forwards and len(executor.done) == plan.tasks > 21
        calls = [node for node in executor.done if change_of(plan).is_made(node)]
        # The first call of the story before takes a clip for each of its three prompts.
        assert plan.forwards - 2 < plan.tasks and len(calls) < len(executor.done)


HISTORY = [
    {0: "a", 20: "b", 40: "c"},
    {0: "a", 20: "new", 40: "c"},
    {0: "a", 17: "other", 22: "new", 40: "c", 63: "end"},
    {0: "first", 17: "other", 22: "b", 40: "c"},
]


def as_text(texts):
    return "{" + ", ".join(f'"{start}": "{text}"' for start, text in texts.items()) + "}"


@pytest.mark.parametrize("frames", [65, 50])
def test_every_telling_is_counted_and_what_stays_is_that_of_the_one_before(tmp_path, frames):
    store, made = FolderStore(tmp_path / "nodes"), []
    for number, texts in enumerate(HISTORY):
        plan = told(texts, *map(as_text, HISTORY[:number]), frames=frames)
        if number:
            alone, executor = video(plan)
            assert len(executor.done) == plan.tasks
        frames_made, executor = video(plan, store=store)
        if number:
            assert np.array_equal(frames_made, alone)
            stays = np.array([not change_of(plan).at(frame) for frame in range(frames)])
            assert np.array_equal(frames_made[stays], made[-1][stays])
            calls = {node for node in executor.done if change_of(plan).is_made(node)}
            assert calls == changed(plan)
            counted = [change_of(plan).num_made(level, plan.wanted) for level in (1, 2, 3)]
            assert counted == [sum(node.level == level for node in calls) for level in (1, 2, 3)]
        made.append(frames_made)
    assert all((one != other).any() for one, other in pairwise(made))


def test_forwards_are_those_of_the_network(monkeypatch):
    model, plan = toy(), told(HISTORY[2], as_text(HISTORY[0]), as_text(HISTORY[1]), guidance=3.0, fine_guidance=1.0)
    denoised, denoise = [], model.denoise
    monkeypatch.setattr(model, "denoise", lambda x, *rest: denoised.append(len(x)) or denoise(x, *rest))
    video(plan, model=model)
    assert sum(denoised) == plan.forwards


def test_frames_that_stay_are_known_to_the_network(monkeypatch, tmp_path):
    model, seen, store = toy(), [], FolderStore(tmp_path / "nodes")
    video(learned_apart(told({0: "a", 20: "b", 40: "c"})), store=store)
    between = model.denoise_between
    monkeypatch.setattr(model, "denoise_between", lambda *args: seen.append(args[-1]) or between(*args))
    plan = learned_apart(told(AFTER, STORY))
    _, executor = video(plan, store=store, model=model)
    assert executor.done[0] == Node(1, 0) and list(seen[0].places) == [0, 1, 3, 4]
    kept = store.get(root_before(plan))
    assert torch.equal(seen[0].latents[0], kept[:, [0, 1, 3, 4]])


def root_before(plan):
    tree = Tree.of(toy(), plan)
    assert tree.before
    return tree.before.key(Node(1, 0))


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("in_memory", [True, False])
def test_what_was_killed_goes_on_to_the_same_bytes(tmp_path, slots, in_memory):
    plan = told(HISTORY[2], as_text(HISTORY[0]), as_text(HISTORY[1]))
    whole, _ = video(plan)
    store = MemoryStore() if in_memory else FolderStore(tmp_path / "nodes")
    states = [
        (chunk.start + len(chunk.frames), {name: tensor.clone() for name, tensor in chunk.state().items()})
        for chunk in chunks(plan, store=store, slots=slots)[0]
    ]
    for start, state in states[-2::-9][::-1]:
        rest, _ = video(plan, resume=state, store=MemoryStore() if in_memory else store)
        assert np.array_equal(rest, whole[start:])


@pytest.mark.parametrize("part", [(0, 1), (16, 17), (19, 22), (38, 50), (0, 65)])
def test_a_part_is_the_slice_of_the_whole_and_is_counted(part):
    plan = told(HISTORY[2], as_text(HISTORY[0]), as_text(HISTORY[1]))
    whole, _ = video(plan)
    small = plan.settings.part(plan, range(*part))
    made, executor = video(small)
    assert np.array_equal(made, whole[part[0] : part[1]])
    assert len(executor.done) == small.tasks


def test_a_million_frames_are_counted_as_fast_as_a_hundred():
    before, after = {0: "a", 300_000: "b", 700_000: "c"}, {0: "a", 300_000: "new", 700_000: "c"}
    plan = told(after, as_text(before), frames=1_000_000, length=16)
    made = [change_of(plan).num_made(level, plan.wanted) for level in range(1, 7)]
    # The first call makes frames 759,375 apart.
    assert made[:2] == [0, 1] and sum(made) == pytest.approx(71_432 * 0.4, rel=0.01)


def test_its_report_repeats_it_elsewhere(tmp_path):
    """The nodes of the story before lie beside the first video only."""
    model, path = Toy(), tmp_path / "story.mkv"
    request = Request(prompts=PromptTimeline((0, 20, 40), ("a", "b", "c")), frames=50, steps=1)
    generate(model, request, NuwaXl(), Output(path=path))
    before = np.concatenate(list(read_frames(path)))
    again = replace(request, prompts=PromptTimeline((0, 20, 40), ("a", "new", "c")))
    generate(model, again, NuwaXl(before=(STORY,)), Output(path=path, overwrite=True))
    after = np.concatenate(list(read_frames(path)))
    assert np.array_equal(after[40:], before[40:]) and not np.array_equal(after[20:40], before[20:40])
    order = read_order(str(path.with_suffix(".json")))
    generate(model, order.request, order.sampler, Output(path=tmp_path / "other.mkv"))
    assert np.array_equal(np.concatenate(list(read_frames(tmp_path / "other.mkv"))), after)


def test_a_file_is_read_once(tmp_path):
    path = tmp_path / "before.json"
    path.write_text(STORY)
    settings = NuwaXl(before=(str(path),))
    path.write_text('{"0": "other"}')
    assert settings.before == (STORY,) and settings == NuwaXl(before=(STORY,))


def test_changes_that_cannot_be(tmp_path):
    with pytest.raises(InputError, match="changes nothing"):
        told({0: "a", 20: "b", 40: "c"}, STORY)
    with pytest.raises(InputError, match="single tree"):
        told(AFTER, STORY, depth=2)
    with pytest.raises(InputError, match="handed down as latents"):
        told(AFTER, STORY, handoff="pixel")
    Image.new("RGB", (2, 2)).save(tmp_path / "first.png")
    with pytest.raises(InputError, match="has neither keyframes nor --init"):
        plan = told(AFTER, STORY)
        plan.settings.plan(replace(plan.request, init=str(tmp_path / "first.png")), plan.spec)
    with pytest.raises(InputError, match="line 1, column 1"):
        told(AFTER, "a")
    spec = replace(toy().spec, clean_frames=False, name="ends-only")
    with pytest.raises(CapabilityError, match="ends-only has not"):
        NuwaXl(before=(STORY,)).plan(told(AFTER).request, spec)
