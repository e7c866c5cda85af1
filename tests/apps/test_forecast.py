"""The model of many processes, on cases with a known answer."""

from dataclasses import replace

import pytest

from longtake.apps.plan.forecast import Link, Machines, forecast, weak_forecast
from longtake.errors import InputError
from longtake.models.toy_spec import TOY
from longtake.request import PromptTimeline, Request
from longtake.sampler import Sampler
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.clips import split_evenly
from longtake.samplers.fifo.plan import Fifo
from longtake.samplers.video_infinity.plan import VideoInfinity, forward_traffic
from longtake.samplers.workload import Sent, fetched, gathered

LAYERS = (("attention", 32, 256), ("block", 64, 64), ("norm", 8, 1), ("convolution", 64, 64))
SPEC = replace(TOY, temporal_layers=LAYERS)
SLOW = Machines(link=Link(latency=0.01, bandwidth=1e6, source="none"), forward_seconds=0.5, width=4)
FREE = replace(SLOW, link=Link(latency=0.0, bandwidth=float("inf"), source="none"))


def request(frames: int | None = 256) -> Request:
    return Request(prompts=PromptTimeline.constant("a"), frames=frames, guidance=4.0)


def test_one_process_sends_nothing() -> None:
    for sampler in (VideoInfinity(), Fifo(partitions=4)):
        alone = forecast(sampler, sampler.plan(request(), SPEC), 1, SLOW)
        assert (alone.messages, alone.bytes, alone.communication, alone.efficiency) == (0, 0, 0, 1)


def test_the_time_of_one_process_is_its_evaluations() -> None:
    plan = VideoInfinity().plan(request(), SPEC)
    alone = forecast(VideoInfinity(), plan, 1, SLOW)
    # Two branches of 256 frames in windows of 8, half a second each.
    assert alone.step_seconds == pytest.approx(2 * 32 * 0.5)
    assert alone.seconds == pytest.approx(plan.num_levels * alone.step_seconds)
    fifo = Fifo(partitions=4)
    queue = fifo.plan(request(), SPEC)
    assert queue.iterations is not None
    took = forecast(fifo, queue, 1, SLOW).seconds
    assert took == pytest.approx((queue.iterations * 8 + queue.num_levels) * 2 * 0.5)


@pytest.mark.parametrize("sampler", [VideoInfinity(clips=32), Fifo(partitions=16)], ids=lambda each: each.name)
def test_efficiency_is_at_most_one_and_falls(sampler: Sampler) -> None:
    plan = sampler.plan(request(), SPEC)
    rows = [forecast(sampler, plan, ranks, SLOW) for ranks in (1, 2, 4, 8, 16, 32)]
    efficiencies = [row.efficiency for row in rows]
    assert efficiencies == sorted(efficiencies, reverse=True)
    assert efficiencies[0] == 1 and 0 < efficiencies[-1] < 1
    assert all(a.held_frames >= b.held_frames for a, b in zip(rows, rows[1:], strict=False))


def test_a_link_that_costs_nothing_leaves_only_the_work() -> None:
    clips = VideoInfinity(clips=32)
    plan = clips.plan(request(), SPEC)
    assert forecast(clips, plan, 32, FREE).efficiency == pytest.approx(1)
    # 32 clips on 3 processes: one has 11 of them.
    assert forecast(clips, plan, 3, FREE).efficiency == pytest.approx(32 / 33)


def test_a_video_that_grows_with_the_processes_is_limited_by_messages_alone() -> None:
    plan = VideoInfinity().plan(request(), SPEC)
    grown = weak_forecast(VideoInfinity(), plan, 4, SLOW)
    assert grown.frames == 4 * 256
    assert grown.efficiency == pytest.approx(1 - grown.communication)
    assert weak_forecast(VideoInfinity(), plan, 4, FREE).efficiency == pytest.approx(1)


@pytest.mark.parametrize("num_ranks", [3, 4])
def test_bytes_are_those_of_the_formula(num_ranks: int) -> None:
    padding, share, width, cells, channels = 8, 4, 4, 256, 32
    clips = split_evenly(24 * num_ranks, num_ranks)
    far = [clip.start + 6 * place for clip in clips for place in range(share)]
    sent = forward_traffic(
        LAYERS,
        clips,
        num_ranks,
        padding=padding,
        global_frames=far,
        compat=True,
        width=width,
    )
    halo = 2 * 2 * padding * cells * channels * width
    distant = 2 * share * (num_ranks - 1) * cells * channels * width
    block = 2 * 4 * 64 * 64 * width
    assert sent[1].bytes == halo + distant + block
    # Neighbours get their edges, everybody the global frames; nothing goes beyond the ends.
    assert sent[1].messages == 2 + (num_ranks - 1) + 2
    assert sent[0].messages == 1 + (num_ranks - 1) + 1


def test_exact_mode_sends_a_frame_a_convolution_with_the_moments_of_norms() -> None:
    layers = LAYERS[1:]
    sent = forward_traffic(
        layers,
        split_evenly(8, 2),
        2,
        padding=8,
        global_frames=(),
        compat=False,
        width=4,
    )
    bytes = 64 * 64 * 4 + 4 * 8 * 2 * 4
    assert sent == [Sent(messages=1, bytes=bytes, received_messages=1, received_bytes=bytes)] * 2


def test_a_halo_wider_than_a_clip_reaches_several_processes() -> None:
    sent = fetched([[0], [1], [2]], [[1, 2], [0, 2], [0, 1]])
    assert sent == [Sent(messages=2, bytes=2, received_messages=2, received_bytes=2)] * 3
    assert gathered(12, 1) == Sent()
    assert gathered(12, 3) == Sent(messages=1, bytes=24, received_messages=2, received_bytes=24)


def test_what_cannot_be_worked_out_is_refused() -> None:
    with pytest.raises(InputError, match="endless"):
        forecast(Fifo(), Fifo().plan(request(None), SPEC), 2, SLOW)
    with pytest.raises(InputError, match="clips"):
        forecast(VideoInfinity(clips=2), VideoInfinity(clips=2).plan(request(), SPEC), 3, SLOW)
    with pytest.raises(InputError, match="chunked"):
        forecast(Chunked(), Chunked().plan(request(), SPEC), 2, SLOW)
    with pytest.raises(InputError, match="mix frames"):
        bare = replace(SPEC, temporal_layers=None)
        forecast(VideoInfinity(), VideoInfinity().plan(request(), bare), 2, SLOW)
