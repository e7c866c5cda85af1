"""The cost model counts what processes really send, and the bench fits what it is given."""

from typing import Any

import pytest
import torch

from lab.measure.rank_trials import CELLS, PADDING, SIZES, TOP_K, Trial, forward_call, forward_trial
from lab.measure.scaling import fit_link, simulated_tables
from longtake.models.modelscope.spec import temporal_layers
from longtake.models.toy import Toy
from longtake.noise import seeded_noise
from longtake.ranks.world import World
from longtake.request import PromptTimeline, Request
from longtake.samplers.clips import split_evenly, spread_frames
from longtake.samplers.fifo.loop import advance, base_clip, fill, prepare
from longtake.samplers.fifo.plan import Fifo, fifo_work
from longtake.samplers.video_infinity.plan import forward_traffic
from longtake.samplers.workload import Sent
from longtake.train.sprites.build import build_unet

FIFO = Fifo(partitions=2)


@pytest.mark.parametrize(
    ("num_ranks", "frames", "compat"),
    [(2, 16, True), (2, 16, False), pytest.param(3, 21, True, marks=pytest.mark.slow), (3, 20, False)],
    ids=["2 compat", "2 exact", "3 compat", "3 exact unequal"],
)
def test_a_forward_sends_what_is_predicted(ranks: Any, num_ranks: int, frames: int, compat: bool) -> None:
    trial = Trial(frames=frames, clips=num_ranks, compat=compat)
    told = [(sent.messages, sent.bytes) for sent in predicted(trial, num_ranks)]
    assert ranks.run(num_ranks, forward, trial) == told


@torch.inference_mode()
def forward(world: World, trial: Trial) -> tuple[int, int]:
    """Send a video through the network once; return what this process sent."""
    forward_call(build_unet(SIZES).eval(), trial, world.clip)()
    return world.clip.traffic.messages, world.clip.traffic.bytes


def test_a_trial_counts_one_forward_and_times_it(ranks: Any) -> None:
    trial = Trial(frames=16, clips=2, compat=False)
    taken = ranks.run(2, forward_trial, trial, 1)
    assert [(sent["messages"][0], sent["bytes"][0]) for sent in taken] == [
        (sent.messages, sent.bytes) for sent in predicted(trial, 2)
    ]
    assert [len(sent["alone"]) for sent in taken] == [1, 0]
    assert all(len(sent[kind]) == 1 for sent in taken for kind in ("apart", "together", "waiting"))


def test_the_short_video_stays_within_its_budget() -> None:
    for compat, messages, mebibytes in ((True, 28, 9.69), (False, 57, 9.75)):
        for sent in predicted(Trial(frames=48, clips=2, compat=compat), 2):
            assert sent.messages <= messages
            assert sent.bytes <= mebibytes * 2**20


def predicted(trial: Trial, num_ranks: int) -> list[Sent]:
    return forward_traffic(
        temporal_layers(dict(build_unet(SIZES).config), (CELLS, CELLS)),
        split_evenly(trial.frames, trial.clips),
        num_ranks,
        padding=PADDING,
        global_frames=spread_frames(trial.frames, TOP_K),
        compat=trial.compat,
        width=4,
    )


def test_an_iteration_of_fifo_sends_what_is_predicted(ranks: Any) -> None:
    plan = FIFO.plan(request(64), Toy().spec)
    work = fifo_work(plan, 3, 4)
    assert ranks.run(3, iteration) == [(rank.sent.messages, rank.sent.bytes) for rank in work.ranks]


def iteration(world: World) -> tuple[int, int]:
    """Run one iteration of FIFO on the toy; return what this process sent."""
    torch.set_num_threads(1)
    model = Toy()
    setting = prepare(model, FIFO.plan(request(None), model.spec), seeded_noise(1), world)
    advance(setting, fill(setting, base_clip(setting)))
    return world.clip.traffic.messages, world.clip.traffic.bytes


def request(frames: int | None) -> Request:
    return Request(prompts=PromptTimeline.constant("a"), frames=frames, guidance=4.0)


def test_the_fit_finds_the_constants_that_made_the_times() -> None:
    sizes = [1000, 10_000, 100_000, 1_000_000]
    link = fit_link(sizes, [50e-6 + size / 2e9 for size in sizes])
    assert link.latency == pytest.approx(50e-6)
    assert link.bandwidth == pytest.approx(2e9)


@pytest.mark.slow
def test_simulated_tables_reach_64_processes() -> None:
    tables = simulated_tables()
    for kind in ("strong", "weak"):
        rows = tables["video-infinity compat, pcie"][kind]
        assert [row["ranks"] for row in rows] == [1, 2, 4, 8, 16, 32, 64]
        assert rows[-1]["efficiency"] < rows[1]["efficiency"] < 1
