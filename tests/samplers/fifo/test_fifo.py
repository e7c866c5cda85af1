import threading
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from longtake.errors import InputError
from longtake.model import Timing
from longtake.models.toy import Toy
from longtake.models.toy_spec import TOY
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.fifo.loop import advance, base_clip, fill, prepare, shift
from longtake.samplers.fifo.plan import Fifo, lookahead_windows, partition_windows


def spec(f=16, guidance=12.0):
    return replace(TOY, num_frames=f, latent_shape=(3, f, 8, 8), guidance=guidance)


def plan(frames=100, f=16, guidance=12.0, **settings):
    request = Request(prompts=PromptTimeline.constant("a"), frames=frames)
    return Fifo(**settings).plan(request, spec(f, guidance))


def video(settings, frames=40, prompts=None, dtype=torch.float32):
    model = Toy(dtype)
    request = Request(prompts=prompts or PromptTimeline.constant("a"), frames=frames, seed=3, guidance=2.0)
    made = run_plan(model, Fifo(**settings).plan(request, model.spec), seeded_noise(3), ALONE, None)
    return np.concatenate([chunk.frames for chunk in made])


@pytest.mark.parametrize("f", [2, 5, 8, 17])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_kept_parts_tile_the_body(f, n):
    for windows, first in ((partition_windows(f, n), 0), (lookahead_windows(f, n), f // 2)):
        kept = [slot for window in windows for slot in range(window.keep_start, window.keep_stop)]
        assert kept == list(range(first, first + f * n))
        assert all(w.stop - w.start == f and w.start <= w.keep_start for w in windows)


@pytest.mark.parametrize("f", [5, 8, 16])
@pytest.mark.parametrize("n", [1, 3])
def test_no_window_reads_what_a_noisier_one_has_written(f, n):
    """Computed from the noisy end in place, or all at once: the same numbers."""
    windows = lookahead_windows(f, n)
    for index, window in enumerate(windows):
        written = {slot for noisier in windows[index + 1 :] for slot in range(noisier.keep_start, noisier.keep_stop)}
        assert not written & set(range(window.start, window.stop))


def test_counts_of_the_authors_defaults():
    """f = 16, n = 4, lookahead, 100 frames: theirs are 148 iterations of 8 windows and 2 branches, 2,368 forwards."""
    ours = plan(partitions=4)
    assert ours.num_levels == 64 and ours.queue_length == 72 and ours.iterations == 148
    base = 2 * 64
    assert ours.forwards is not None and ours.forwards - base == 2312
    assert ours.decoded == 100
    assert plan(partitions=4, guidance=1.0).forwards == ours.forwards // 2
    assert [plan(partitions=n, lookahead=False).forwards_per_frame for n in (1, 2, 4)] == [2, 4, 8]
    assert [plan(partitions=n).forwards_per_frame for n in (1, 2, 4)] == [4, 8, 16]


@pytest.mark.parametrize("settings", [{}, {"partitions": 3}, {"partitions": 3, "lookahead": False}])
def test_leaving_out_windows_at_the_end_changes_nothing(settings):
    """A run of 20 frames is the start of a run of 60, bit for bit, although it leaves out windows at its end."""
    short, long = video(settings, 20), video(settings, 60)
    assert np.array_equal(short, long[:20])
    request = Request(prompts=PromptTimeline.constant("a"), frames=20)
    finite = Fifo(**settings).plan(request, TOY)
    assert len(finite.computed(finite.iterations - 1)) < len(finite.windows) or len(finite.windows) == 1


def windows_by_the_loop(plan):
    """Which windows every iteration computes, worked out backwards from the last: what can still reach a frame."""
    k, kept, computed = plan.settings.frames_per_level, plan.head + plan.settings.frames_per_level, []
    for iteration in reversed(range(plan.iterations)):
        needed = [w for w, window in enumerate(plan.windows) if window.keep_start < kept]
        kept = plan.windows[needed[-1]].stop + k
        if plan.settings.short_warmup:
            needed = [w for w in needed if plan.frame(iteration, plan.windows[w].keep_stop - 1) >= 0]
        computed.append(needed)
    return computed[::-1]


SHAPES = [
    *({"partitions": n, "lookahead": lookahead} for n in (1, 2, 5) for lookahead in (False, True)),
    {"partitions": 4, "short_warmup": True},
    {"partitions": 3, "lookahead": False, "short_warmup": True, "frames_per_level": 2, "guided_windows": 1},
    {"partitions": 4, "plain_partitions": 2, "guided_windows": 3, "frames_per_level": 4, "short_warmup": True},
]


@pytest.mark.parametrize("settings", SHAPES)
@pytest.mark.parametrize("f", [8, 16])
def test_counts_are_those_of_the_loop(f, settings):
    for frames in (1, 2, 3, 7, 16, 40, 101):
        made = plan(frames, f, **settings)
        computed = windows_by_the_loop(made)
        assert [list(made.computed(iteration)) for iteration in range(made.iterations)] == computed
        guided = sum(2 if made.guided(window) else 1 for windows in computed for window in windows)
        assert (made.forwards, made.tasks) == (2 * made.num_levels + guided, 1 + sum(map(len, computed)))


def test_plans_of_any_length_take_no_longer():
    tracemalloc.start()
    made = plan(10**12, partitions=100, short_warmup=True)
    assert made.forwards > 10**14 and list(made.computed(10**11)) == list(range(200))
    assert tracemalloc.get_traced_memory()[1] < 4e5
    tracemalloc.stop()


@pytest.mark.parametrize("window_batch", [2, 5, 16])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_batches_do_not_change_the_video(window_batch, eta):
    serial = video({"partitions": 3, "eta": eta}, dtype=torch.float64)
    batched = video({"partitions": 3, "eta": eta, "window_batch": window_batch}, dtype=torch.float64)
    assert np.abs(serial.astype(int) - batched).max() <= 1


def test_a_finished_frame_is_clean_and_the_authors_frame_is_not():
    """Level 0 lands on x0 exactly; in compat it is the identity (their last step does nothing)."""
    model = Toy(torch.float64)
    request = Request(prompts=PromptTimeline.constant("a"), frames=None, seed=1)
    for compat, ends_clean in (("off", True), ("videocrafter2", False)):
        fifo = Fifo(compat=compat)
        setting = prepare(model, fifo.plan(request, model.spec), seeded_noise(1))
        queue = fill(setting, base_clip(setting))
        updated, _ = advance(setting, queue)
        slot = setting.plan.head
        unchanged = torch.allclose(updated[:, slot], queue.frames[:, slot], atol=1e-12)
        assert unchanged != ends_clean


def test_every_frame_takes_its_prompt_along():
    """A frame keeps its own prompt from the start; the authors switch the whole queue at once, so theirs lag."""
    prompts = PromptTimeline((0, 20), ("red", "blue"))
    model = Toy(torch.float64)
    request = Request(prompts=prompts, frames=40)
    own = prepare(model, Fifo(partitions=2).plan(request, model.spec), seeded_noise(0))
    for iteration in range(30):
        for slot in range(own.plan.queue_length):
            assert own.prompt(iteration, slot) == (1 if own.plan.frame(iteration, slot) < 20 else 2)
    switched = prepare(model, Fifo(partitions=2, compat="videocrafter2").plan(request, model.spec), seeded_noise(0))
    warmup = switched.plan.warmup_frames
    assert {switched.prompt(19 + warmup, slot) for slot in range(switched.plan.queue_length)} == {1}
    assert {switched.prompt(20 + warmup, slot) for slot in range(switched.plan.queue_length)} == {2}


def test_prompts_start_at_pixel_frames_where_a_latent_frame_holds_several():
    request = Request(prompts=PromptTimeline((0, 5, 13), ("a", "b", "c")), frames=40)
    spec = replace(TOY, timing=Timing(stride=4))
    setting = prepare(Toy(), Fifo(partitions=2).plan(request, spec), seeded_noise(0))
    # Latent frame 0 is pixel frame 0, latent frame i begins at pixel frame 4 i - 3.
    assert setting.plan.prompts_of((-3, 0, 1, 2, 3, 4, 5)) == [1, 1, 1, 2, 2, 3, 3]


def test_frames_that_share_a_level():
    two = plan(frames=40, f=8, frames_per_level=2, partitions=2)
    assert two.num_levels == 8 and two.iterations == (40 + 8) // 2
    assert [two.level(slot) for slot in range(two.head, two.head + 4)] == [1, 1, 2, 2]
    assert two.forwards_per_frame == plan(frames=40, f=8, partitions=2).forwards_per_frame / 2
    assert video({"frames_per_level": 2, "partitions": 2}, 41).shape == (41, 8, 8, 3)


def test_a_short_warmup_costs_less_and_changes_little():
    exact, short = plan(partitions=4), plan(partitions=4, short_warmup=True)
    assert short.forwards < 0.9 * exact.forwards
    ours, theirs = video({"partitions": 3, "short_warmup": True}), video({"partitions": 3})
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    assert difference[20:].mean() < 12


def test_guidance_on_the_noisier_windows_only():
    some = plan(partitions=4, guided_windows=3)
    assert some.forwards_per_frame == 3 * 2 + 5
    assert sorted(w for batch in some.batches(0) for w in batch) == list(range(8))


def test_lookahead_on_the_noisier_partitions_only():
    mixed = plan(partitions=4, plain_partitions=2)
    assert len(mixed.windows) == 2 + 4
    kept = [slot for window in mixed.windows for slot in range(window.keep_start, window.keep_stop)]
    assert kept == list(range(8, 72))
    assert video({"partitions": 3, "plain_partitions": 1}).shape[0] == 40


@pytest.mark.parametrize(
    ("settings", "request_settings", "says"),
    [
        ({}, {"steps": 20}, "fixes the number of steps"),
        ({"partitions": 0}, {}, "partitions is 0"),
        ({"partitions": 10**12}, {}, "use 10000 at most"),
        ({"eta": 1.5}, {}, "eta is 1.5"),
        ({"frames_per_level": 3}, {}, "does not divide"),
        ({"plain_partitions": 1}, {}, "fewer than partitions"),
        ({"compat": "opensora", "short_warmup": True}, {}, "authors' code"),
        ({"guided_windows": 0}, {}, "--guidance 1"),
        ({"guided_windows": 3, "partitions": 2, "plain_partitions": 1}, {}, "number of windows, here 3"),
        ({"short_warmup": True}, {}, "with 2 partitions or more"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, request_settings, says):
    request = Request(prompts=PromptTimeline.constant("a"), frames=10, **request_settings)
    with pytest.raises(InputError, match=says):
        Fifo(**settings).plan(request, spec())


def test_the_queue_never_grows():
    model = Toy()
    setting = prepare(
        model,
        Fifo(partitions=2).plan(Request(prompts=PromptTimeline.constant("a"), frames=None), model.spec),
        seeded_noise(0),
    )
    queue = fill(setting, base_clip(setting))
    for _ in range(5):
        updated, emitted = advance(setting, queue)
        queue = shift(setting, queue, updated, emitted)
        assert queue.frames.shape[1] == setting.plan.queue_length


@pytest.mark.parametrize("idle", [True, False])
def test_one_thread_decodes_all_frames(idle, monkeypatch):
    """What a decoder works with is kept by each thread that has called it: 12 MB more for the last eight frames."""
    threads = []

    class Watched(Toy):
        def decode(self, latents, state=None, last=True):
            threads.append(threading.get_ident())
            return super().decode(latents, state, last)

    monkeypatch.setattr("longtake.samplers.fifo.loop._processor_is_idle", lambda setting: idle)
    model = Watched(torch.float32)
    request = Request(prompts=PromptTimeline.constant("a"), frames=40, seed=3, guidance=2.0)
    list(run_plan(model, Fifo().plan(request, model.spec), seeded_noise(3), ALONE, None))
    assert len(threads) > 1 and len(set(threads)) == 1
    assert (threads[0] != threading.get_ident()) is idle
