"""NUWA-XL on the toy model, whose infill is exact."""

import random
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from PIL import Image

from longtake.errors import CapabilityError, InputError
from longtake.model import Continuation, Strided
from longtake.models.schedules import discrete_schedule
from longtake.models.toy import Toy
from longtake.models.toy_spec import TOY
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import plan_work, run_plan
from longtake.samplers.nuwa_xl.ladder import Node
from longtake.samplers.nuwa_xl.loop import Tree
from longtake.samplers.nuwa_xl.plan import NuwaXl, NuwaXlPlan
from longtake.schedule import step
from longtake.tasks.stores import FolderStore, MemoryStore
from longtake.tasks.task import Executor, run_tasks

STORY = PromptTimeline((0, 20, 40, 70), ("a", "b", "c", "d"))


def toy(length: int = 5) -> Toy:
    model = Toy()
    model.spec = replace(TOY, num_frames=length, latent_shape=(3, length, 2, 2), height=2, width=2)
    return model


def planned(frames: int | None = 65, length: int = 5, prompts=STORY, steps=1, guidance=1.0, seed=3, **settings: Any):
    request = Request(prompts=prompts, frames=frames, seed=seed, guidance=guidance, steps=steps)
    return NuwaXl(**settings).plan(request, toy(length).spec)


class Counting(Executor):
    """Does tasks here, holding several at a time, and returns them in any order."""

    def __init__(self, model: Any, plan: NuwaXlPlan, slots: int = 1) -> None:
        self.slots, self.done, self.given = slots, [], {}
        self._work = plan_work(model, plan, seeded_noise(plan.request.seed), ALONE)
        self._waiting, self._random = [], random.Random(4)

    def submit(self, tasks, given):
        self._waiting.append((tasks, given))

    def next_finished(self):
        tasks, given = self._waiting.pop(self._random.randrange(len(self._waiting)))
        nodes = [Node(*task.name[:2]) for task in tasks]
        self.done += nodes
        self.given |= dict.fromkeys(nodes) if given is None else zip(nodes, given, strict=True)
        return tasks, self._work(tasks, given)

    def close(self):
        pass


def chunks(plan: NuwaXlPlan, model=None, store=None, resume=None, slots=1):
    """The chunks of a plan, and who made its calls."""
    model = model or toy(plan.spec.num_frames)
    executor = Counting(model, plan, slots)
    store = MemoryStore() if store is None else store
    return run_plan(model, plan, seeded_noise(3), ALONE, resume, executor, store), executor


def video(plan: NuwaXlPlan, **how: Any):
    made, executor = chunks(plan, **how)
    return np.concatenate([chunk.frames for chunk in made]), executor


@pytest.mark.parametrize("length", [3, 5, 8])
@pytest.mark.parametrize("frames", [1, 2, 5, 17, 18, 40])
def test_every_frame_comes_out_once(frames, length):
    plan = planned(frames, length)
    made, executor = chunks(plan)
    starts = []
    for chunk in made:
        assert chunk.start == sum(starts)
        starts.append(len(chunk.frames))
    assert sum(starts) == frames
    assert len(executor.done) == len(set(executor.done)) == plan.tasks


def test_neighbours_share_the_frame_between_them():
    plan, store = planned(65), MemoryStore()
    store.drop = lambda key: None
    model, calls = toy(), {}
    executor = Counting(model, plan)
    tree = Tree.of(model, plan)
    for task in run_tasks(tree.first(store), tree.children, lambda tasks: tree.given(store, tasks), executor, store):
        calls[Node(*task.name)] = store.get(task.key)
    frames = {}
    for node, latents in calls.items():
        for place, frame in enumerate(plan.ladder.window(node)):
            assert torch.equal(latents[:, place], frames.setdefault(frame, latents[:, place]))
    assert sorted(frames) == list(range(65))


def test_ends_are_known_to_the_network():
    """The toy's infill is exact: close to its ends a window is close to them, though its prompt is another."""
    plan = planned(17, steps=20)
    model = toy()
    work = plan_work(model, plan, seeded_noise(3), ALONE)
    tree = Tree.of(model, plan)
    first = tree.first(MemoryStore())
    (child, *_) = tree.children(first)
    ends = torch.stack([torch.full((3, 2, 2), value) for value in (-3.0, 3.0)], dim=1)
    (made,) = work([child], ends[None])
    assert torch.equal(made[:, 0], ends[:, 0]) and torch.equal(made[:, -1], ends[:, 1])
    assert (made.mean((0, 2, 3)).diff() > 0).all()


@pytest.mark.parametrize("slots", [2, 4, 9])
def test_any_order_gives_the_same_frames(slots):
    plain, _ = video(planned())
    shuffled, executor = video(planned(), slots=slots)
    assert np.array_equal(plain, shuffled)
    assert executor.done != sorted(executor.done)


@pytest.mark.parametrize(
    "settings", [{"eta": 1.0}, {"handoff": "pixel"}, {"depth": 2}, {"fit": "stretch"}, {"depth": 1}]
)
def test_every_setting_shows_and_is_counted(settings, monkeypatch):
    plan, model = planned(40, steps=2, **settings), toy()
    denoised, decoded = [], []
    encode = model.encode_frames
    monkeypatch.setattr(model, "encode_frames", lambda frames: encode(frames) / 2)
    denoise, decode = model.denoise, model.decode
    monkeypatch.setattr(model, "denoise", lambda x, *rest: denoised.append(len(x)) or denoise(x, *rest))
    monkeypatch.setattr(model, "decode", lambda z, state, last: decoded.append(z.shape[1]) or decode(z, state, last))
    made, executor = video(plan, model=model)
    assert (len(executor.done), sum(denoised), sum(decoded)) == (plan.tasks, plan.forwards, plan.decoded)
    assert not np.array_equal(made, video(planned(40, steps=2))[0])
    if plan.settings.handoff == "latent":
        assert np.array_equal(made, video(plan, slots=3)[0])


@pytest.mark.parametrize("handoff", ["latent", "pixel"])
def test_known_ends_are_handed_over_with_their_places_and_the_pixels_that_there_are(handoff, monkeypatch):
    model, seen = toy(), []
    between = model.denoise_between
    monkeypatch.setattr(model, "denoise_between", lambda *args: seen.append(args[-1]) or between(*args))
    video(planned(17, handoff=handoff), model=model)
    assert seen and all(known.places == (0, 4) and known.latents.shape[2] == 2 for known in seen)
    for known in seen:
        assert (known.pixels is None) == (handoff == "latent")
        if known.pixels is not None:
            torch.testing.assert_close(model.encode_frames(known.pixels[0]), known.latents[0])


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("settings", [{}, {"depth": 1}, {"depth": 2}])
def test_what_was_killed_goes_on(settings, slots):
    plan = planned(40, **settings)
    whole, _ = video(plan)
    states = [(chunk.start + len(chunk.frames), chunk.state()) for chunk in chunks(plan, slots=slots)[0]]
    for start, state in states[-2::-3][::-1]:
        rest, executor = video(plan, resume={name: tensor.clone() for name, tensor in state.items()})
        assert np.array_equal(rest, whole[start:])
    # All that a run still needs is in its state: the last leaf is all that is left to do.
    assert len(executor.done) <= 1


def test_a_kill_loses_only_what_is_under_way(tmp_path):
    plan = planned(65)
    whole, _ = video(plan)
    for taken in (1, 3, 12):
        folder = FolderStore(tmp_path / str(taken))
        made, executor = chunks(plan, store=folder, slots=4)
        for _ in range(taken):
            last = next(made)
        resume = last.state()
        assert set(resume) == {"next", "decoder.frames"}
        done = len(executor.done)
        rest, again = video(plan, store=folder, resume=resume)
        assert np.array_equal(rest, whole[int(resume["next"]) :])
        assert done + len(again.done) == plan.tasks


def test_the_first_clip_is_there_after_a_call_a_level():
    made, executor = chunks(planned(65))
    first = next(chunk for chunk in made if len(chunk.frames))
    assert len(first.frames) == 5 and len(executor.done) == 3


@pytest.mark.parametrize("part", [(0, 1), (16, 17), (30, 31), (20, 45), (64, 65), (15, 18), (0, 65)])
def test_a_part_is_the_slice_of_the_whole(part):
    plan = planned(65)
    whole, _ = video(plan)
    small = plan.settings.part(plan, range(*part))
    made, executor = video(small)
    assert np.array_equal(made, whole[part[0] : part[1]])
    assert len(executor.done) == small.tasks
    assert (small.tasks or 0) < 21 or part == (0, 65)


def test_a_part_of_what_is_there_takes_only_what_is_missing(tmp_path):
    plan = planned(65)
    store = FolderStore(tmp_path / "nodes")
    video(plan.settings.part(plan, range(1)), store=store)
    assert video(plan.settings.part(plan, range(22, 23)), store=store)[1].done == [Node(2, 1), Node(3, 5)]
    assert video(plan.settings.part(plan, range(23, 24)), store=store)[1].done == []


def test_new_words_cost_the_calls_that_see_them_and_what_waits_for_these(tmp_path):
    """A prompt between the frames of the coarser levels is one that they never saw."""
    store = FolderStore(tmp_path / "nodes")
    before, _ = video(planned(65), store=store)
    for starts, expected in [((0, 21, 22, 70), 1), ((0, 21, 33, 70), None)]:
        story = PromptTimeline((0, 20, *starts[1:3], 40), ("a", "b", "new", "b", "c"))
        plan = planned(65, prompts=story)
        made, executor = video(plan, store=store)
        fresh, everything = video(plan)
        assert np.array_equal(made, fresh) and not np.array_equal(made, before)
        changed = {node for node in everything.done if set(plan.ladder.window(node)) & set(range(*starts[1:3]))}
        waiting = {node for node in everything.done if has_ancestor(plan, node, changed)}
        assert set(executor.done) == changed | waiting
        assert expected is None or len(executor.done) == expected


def has_ancestor(plan, node, nodes):
    parent = plan.ladder.parent(node)
    return parent is not None and (parent in nodes or has_ancestor(plan, parent, nodes))


def test_a_row_of_trees_grows_without_changing(tmp_path):
    store = FolderStore(tmp_path / "nodes")
    story = PromptTimeline((0, 30), ("a", "b"))
    short, _ = video(planned(17, depth=2, prompts=story), store=store)
    plan = planned(60, depth=2, prompts=story)
    long, executor = video(plan, store=store)
    assert np.array_equal(long[:17], short)
    assert plan.tasks == len(executor.done) + 5
    assert executor.given[Node(1, 1)].shape[1] == 1
    assert np.array_equal(long, video(plan)[0])


def test_an_endless_row_holds_as_much_at_its_thousandth_frame():
    plan = planned(None, depth=2, steps=1)
    sizes = set()
    for chunk in chunks(plan)[0]:
        if len(chunk.frames):
            sizes.add(sum(tensor.numel() for tensor in chunk.state().values()))
        if chunk.start > 200:
            break
    assert len(sizes) <= 2
    assert plan.forwards is None and plan.tasks is None
    assert plan.settings.part(plan, range(100, 110)).tasks == 7 + 3


def test_the_finest_level_has_a_guidance_of_its_own():
    model = toy()
    plans = [planned(guidance=3.0), planned(guidance=3.0, fine_guidance=1.0), planned(guidance=3.0, fine_guidance=5.0)]
    # The first call is of three clips, one for each of its prompts.
    assert [plan.forwards for plan in plans] == [2 * 23, 2 * 7 + 16, 2 * 23]
    assert [[plan.call_guidance(level) for level in (1, 2, 3)] for plan in plans[:2]] == [[3, 3, 3], [3, 3, 1]]
    videos = [video(plan, model=model)[0] for plan in plans]
    assert np.array_equal(videos[0][::4], videos[1][::4]) and not np.array_equal(videos[0], videos[1])
    model.spec = replace(model.spec, infill_guidance=1.0)
    own = replace(plans[0], spec=model.spec)
    assert np.array_equal(video(own, model=model)[0], videos[1])
    assert len({Tree.of(model, plan).common for plan in (*plans, own)}) == 3


def test_models_are_told_the_stride():
    class Told(Toy, Strided):
        strides: list[int] = []

        @contextmanager
        def strided(self, stride):
            self.strides.append(stride)
            yield

    model = Told()
    model.spec = toy().spec
    video(planned(65, prompts=PromptTimeline.constant("a")), model=model)
    assert model.strides[:3] == [16, 4, 1] and sorted(set(model.strides)) == [1, 4, 16]


class Joint(Toy):
    """Decodes a call's frames together: each is dimmed by the mean of all."""

    def decode(self, latents, state, last):
        frames, _ = super().decode(latents, state, last)
        return (frames + frames.mean(dim=0)) / 2, None


@pytest.mark.parametrize("settings", [{}, {"depth": 1}, {"depth": 2}, {"fit": "stretch"}])
def test_a_decoder_of_clips_is_given_the_calls_that_made_the_frames(settings, monkeypatch):
    model = Joint()
    model.spec = replace(toy().spec, clip_decoder=True)
    plan = NuwaXl(**settings).plan(planned(40).request, model.spec)
    sizes, decode = [], model.decode
    monkeypatch.setattr(model, "decode", lambda z, state, last: sizes.append(z.shape[1]) or decode(z, state, last))
    whole, _ = video(plan, model=model)
    assert sum(sizes) == plan.decoded and len(whole) == 40
    assert not np.array_equal(whole, video(planned(40, **settings))[0])
    for part in [(0, 1), (16, 17), (13, 30)]:
        small, before = plan.settings.part(plan, range(*part)), sum(sizes)
        assert np.array_equal(video(small, model=model)[0], whole[part[0] : part[1]])
        assert sum(sizes) - before == small.decoded
    states = [(chunk.start + len(chunk.frames), chunk.state()) for chunk in chunks(plan, model=model)[0]]
    for start, state in states[-2::-6]:
        assert np.array_equal(video(plan, model=model, resume=state)[0], whole[start:])


def test_prompts_are_those_of_the_frames_of_a_call():
    plan = planned(60)
    assert plan.prompts(plan.ladder.window(Node(1, 0))) == [1, 1, 2, 3, 3]
    assert plan.prompts(plan.ladder.window(Node(3, 5))) == [2, 2, 2, 2, 2]
    # The tree goes on to frame 64; what is said of frame 70 changes nothing.
    assert plan.prompts(range(68, 72)) == [3, 3, 3, 3]


def test_settings_that_cannot_be():
    with pytest.raises(InputError, match="eta"):
        planned(eta=1.5)
    with pytest.raises(InputError, match="out of range"):
        planned(fine_guidance=-1.0)
    with pytest.raises(InputError, match="no effect on one level"):
        planned(5, fine_guidance=2.0)
    with pytest.raises(InputError, match="window_batch is 0"):
        planned(window_batch=0)
    for alone in ({"frames": 5}, {"frames": 20, "depth": 1}, {"frames": 2, "depth": 3}):
        with pytest.raises(InputError, match="window_batch has no effect"):
            planned(window_batch=2, **alone)
    with pytest.raises(InputError, match="endless"):
        planned(None)
    with pytest.raises(CapabilityError, match="latent for every frame"):
        NuwaXl().plan(planned().request, replace(TOY, latent_shape=(4, 64)))
    with pytest.raises(CapabilityError, match="Continuation"):
        NuwaXl(depth=1).plan(planned().request, replace(TOY, capabilities=TOY.capabilities - {Continuation}))
    problems = ("no frames 60 to 65; the video has frames 0 to 64", "no frames -1 to 2")
    for part, problem in zip((range(60, 66), range(-1, 3)), problems, strict=True):
        with pytest.raises(InputError, match=problem):
            planned().settings.part(planned(), part)


def test_ddpm_is_that_of_diffusers():
    """The paper prints the variance where the standard deviation belongs (its eq. 16)."""
    theirs = DDPMScheduler(num_train_timesteps=1000, beta_schedule="scaled_linear", clip_sample=False)
    theirs.set_timesteps(1000)
    theirs.alphas_cumprod = theirs.alphas_cumprod.double()
    ours = discrete_schedule(theirs.alphas_cumprod.double(), 1000, "leading", "epsilon")
    generator = torch.Generator().manual_seed(0)
    x, epsilon = (torch.randn(2, 3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    for level in (1, 2, 500, 1000):
        timestep = int(ours.timestep[level])
        now, next = ours.now(torch.tensor(level)), ours.next(torch.tensor(level))
        x0 = (x - now.sigma * epsilon) / now.alpha
        torch.manual_seed(1)
        wanted = theirs.step(epsilon, timestep, x).prev_sample
        torch.manual_seed(1)
        z = torch.randn(x.shape, dtype=x.dtype)
        torch.testing.assert_close(step(x, x0, now, next, 1.0, z, None), wanted, atol=1e-6, rtol=1e-6)


def paint(folder, colours, size=(2, 2)):
    folder.mkdir(exist_ok=True)
    for number, colour in enumerate(colours):
        Image.new("RGB", size, colour).save(folder / f"{number:02}.png")
    return str(folder)


def test_keyframes_take_the_place_of_the_first_call(tmp_path):
    colours = [(200, 30, 30), (30, 200, 30), (90, 90, 200)]
    folder = paint(tmp_path / "board", colours)
    plan = planned(30, keyframes=folder)
    made, executor = video(plan)
    assert [tuple(made[frame, 0, 0]) for frame in (0, 16)] == colours[:2]
    assert len(executor.done) == plan.tasks == 2 + 8 and Node(1, 0) not in executor.done
    assert np.array_equal(made[20:25], video(plan.settings.part(plan, range(20, 25)))[0])
    paint(tmp_path / "board", colours[::-1])
    assert tuple(video(plan)[0][0, 0, 0]) == colours[2]


def test_keyframes_that_cannot_be(tmp_path):
    folder = paint(tmp_path / "board", ["red", "green", "blue"])
    with pytest.raises(InputError, match="no folder"):
        planned(30, keyframes=str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="leave them out"):
        planned(30, keyframes=folder, depth=2)
    with pytest.raises(InputError, match="3 keyframes make 6 to 9 frames"):
        planned(12, keyframes=folder)
    with pytest.raises(InputError, match="holds 1 images"):
        planned(30, keyframes=paint(tmp_path / "one", ["red"]))
    with pytest.raises(InputError, match="3x2 pixels"):
        planned(30, keyframes=paint(tmp_path / "wide", ["red", "green"], (3, 2)))
    (tmp_path / "board" / "03.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="cannot be read"):
        planned(30, keyframes=folder)
